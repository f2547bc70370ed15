"""JSON Schema of recipes and cards, built from the same classes that check them."""

from __future__ import annotations

from typing import Any

from efflab.cards.card import Card
from efflab.cards.hugging_face.checkpoint import HF, HuggingFace
from efflab.foundation import registry
from efflab.recipe.recipe import RecipeSpec

REF = "#/$defs/{model}"


def recipe_schema() -> dict[str, Any]:
    """Return the JSON Schema of recipes: a step is one of the installed techniques with its settings and `sweep`."""
    schema = RecipeSpec.model_json_schema(by_alias=True, ref_template=REF)
    definitions = schema.setdefault("$defs", {})
    definitions["Step"] = _one_of("techniques", definitions, sweep=True)
    definitions["Backend"] = {
        "anyOf": [{"enum": list(registry.working("backends")[0])}, _one_of("backends", definitions, sweep=False)]
    }
    steps = {"type": "array", "items": {"$ref": "#/$defs/Step"}, "minItems": 1}
    definitions["VariantSpec"]["properties"]["steps"] = steps
    schema["properties"]["variants"]["additionalProperties"] = {"anyOf": [steps, {"$ref": "#/$defs/VariantSpec"}]}
    schema["properties"]["variants"].pop("patternProperties", None)
    definitions["Measure"]["properties"]["backends"]["items"] = {"$ref": "#/$defs/Backend"}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def card_schema() -> dict[str, Any]:
    """Return the JSON Schema of baseline cards."""
    schema = Card.model_json_schema(ref_template=REF)
    ours = HuggingFace.model_json_schema(ref_template=REF)
    schema["$defs"]["HuggingFace"] = ours
    models = next(one for one in schema["properties"]["model"]["anyOf"] if one.get("type") == "object")
    models["properties"] = {HF: {"anyOf": [ours["properties"]["id"], {"$ref": REF.format(model="HuggingFace")}]}}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _add_sweep(settings: dict[str, Any]) -> None:
    """Let settings be swept: each may have a list of values."""
    properties = settings.setdefault("properties", {})
    lists = {key: {"type": "array", "items": value} for key, value in properties.items() if key != "sweep"}
    properties["sweep"] = {"type": "object", "properties": lists, "additionalProperties": False}


def _beside(plugin: Any, settings: dict[str, Any], definitions: dict[str, Any]) -> None:
    """Let the keys of a section stand in it, where they can be swept, too, and beside it, with the plug-in's own defaults."""
    field = plugin.model_fields[plugin.short_form]
    section = definitions[field.annotation.__name__]
    _add_sweep(section)
    usual = field.default.model_dump(mode="json")
    beside = {key: {**one, "default": usual[key]} for key, one in section["properties"].items() if key != "sweep"}
    settings["properties"] = {**beside, **settings["properties"]}
    for one in section["properties"].values():  # several plug-ins share the section, each with defaults of its own
        one.pop("default", None)


def _one_of(kind: str, definitions: dict[str, Any], sweep: bool) -> dict[str, Any]:
    properties = {}
    good, _ = registry.working(kind)
    for name, plugin in good.items():
        settings = plugin.model_json_schema(ref_template=REF)
        definitions.update(settings.pop("$defs", {}))
        if plugin.short_form:
            _beside(plugin, settings, definitions)
        if sweep:
            _add_sweep(settings)
        properties[name] = {"anyOf": [settings, {"type": "null"}]}
    return {
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
        "minProperties": 1,
        "maxProperties": 1,
    }
