"""Every setting that a user may write in a recipe or a card says in one short sentence or two what it means."""

import pytest

from efflab.cards.card import Card, Promise, PythonModel, Weights
from efflab.cards.hugging_face.checkpoint import HuggingFace
from efflab.contracts.training_section import TrainingSettings
from efflab.foundation import registry
from efflab.recipe.measure import Measure
from efflab.recipe.recipe import Limits, RecipeSpec
from efflab.recipe.search_section import SearchSpec
from efflab.recipe.variants import VariantSpec

MOST_WORDS = 25
KINDS = ("techniques", "backends", "tasks")
SECTIONS = [
    Card, HuggingFace, Limits, Measure, Promise, PythonModel, RecipeSpec, SearchSpec, TrainingSettings, VariantSpec, Weights,
]  # fmt: skip
SCHEMAS = {
    f"{kind}/{name}": registry.load(kind, name)
    for kind in KINDS
    for name in registry.names(kind)
    if registry.origin(kind, name) == "efflab"
}
SCHEMAS |= {section.__name__: section for section in SECTIONS}


@pytest.mark.parametrize("name", SCHEMAS)
def test_each_setting_says_what_it_means(name):
    for setting, field in SCHEMAS[name].model_fields.items():
        told = field.description or ""
        assert told, f"{setting} has no description"
        assert told[0].isupper(), f"{setting}: {told}"
        assert told.endswith("."), f"{setting}: {told}"
        assert "  " not in told, f"{setting}: {told}"
        assert len(told.split()) <= MOST_WORDS, f"{setting}: {told}"


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_schema_carries_the_descriptions(name):
    schema = SCHEMAS[name]
    properties = schema.model_json_schema().get("properties", {})
    assert {key: one.get("description") for key, one in properties.items()} == {
        field.alias or key: field.description for key, field in schema.model_fields.items()
    }
