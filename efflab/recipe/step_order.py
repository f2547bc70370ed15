"""Which order of steps is possible, which is wise, and what a backend can take."""

from __future__ import annotations

from efflab.artefacts.artefact import Form
from efflab.contracts.technique import Technique
from efflab.contracts.technique_roles import converter
from efflab.foundation.config import Document, Key
from efflab.foundation.errors import Problem
from efflab.recipe.variants import Variant
from efflab.records.variant_name import variant_name

_FORMS: dict[Form, str] = {"module": "a torch module", "onnx": "an ONNX file"}


def order_problems(variants: list[Variant], start: Form, document: Document) -> list[Problem]:
    """Return the variants whose steps cannot stand in their order on a baseline of form `start`."""
    problems = []
    for variant in variants:
        entry: Key = ("variants", variant_name(variant.name).entry)
        form, names, stuck = start, list[str](), ""
        for name, technique in variant.steps:
            what = ""
            early = [one for one in names if one in technique.before]
            if technique.takes != form:
                takes, has = _FORMS[technique.takes], _FORMS[form]
                what = f"{name} takes {takes}, but the model is {has} there; {_mend(name, variant, start)}"
            elif technique.after and not set(technique.after) & {*names} and start == "module":
                what = f"{name} must come after {' or '.join(technique.after)}; legal order: {_legal(variant)}"
            elif early:
                what = _out_of_order(name, early, technique, variant)
            elif stuck and technique.gives == "onnx" and technique.takes == "module":
                what = f"{name} cannot stand after {stuck}"
            if what:
                problems.append(Problem(document.where(entry), what))
                break
            form = technique.gives
            names.append(name)
            stuck = stuck or (f"{name}: {technique.no_onnx()}" if technique.no_onnx() else "")
    return problems


def order_notes(variants: list[Variant]) -> list[str]:
    """Say which variants have a legal order that is known to be the worse one, and why."""
    notes = []
    for variant in (one for one in variants if one.role == "variant"):
        names = [name for name, _ in variant.steps]
        first = len(names) - variant.own  # what a parent did is told of the parent
        for place, (name, technique) in enumerate(variant.steps):
            for other, reason in technique.rather_after.items():
                later = [at for at, one in enumerate(names) if one == other and at > place]
                if later and later[-1] >= first and other not in names[:place]:
                    named = variant_name(variant.name).entry
                    notes.append(f"variant {named}: {name} had better stand after {other}: {reason}")
    return list(dict.fromkeys(notes))


def _out_of_order(name: str, early: list[str], technique: Technique, variant: Variant) -> str:
    """Say what is wrong with `name` standing after `early`, and what can be done."""
    if name in early:
        return f"{name} stands twice, and may stand once"
    others = dict(variant.steps)
    rivals = [one for one in early if name in others[one].before]
    if rivals:
        return f"{name} may not stand after {rivals[0]}, nor before it: a variant takes one of the two"
    rest = [one for one, _ in variant.steps if one not in (name, *early)]
    order = " -> ".join([*rest, name, *early]) if others[early[0]].takes == technique.takes else _legal(variant)
    return f"{name} must come before {', '.join(early)}; legal order: {order}"


def misfit(variant: Variant, start: Form, backend: str, takes: Form) -> str:
    """Say why a backend that takes `takes` cannot run a variant of a baseline of form `start`, exported if need be; or ""."""
    form = variant.form(start)
    if takes == "module" and form == "onnx":
        return f"{backend} runs torch modules; this variant is an ONNX file"
    stuck = next(filter(None, (technique.no_onnx() for _, technique in variant.steps)), "")
    return stuck if takes == "onnx" and form == "module" else ""


def _mend(name: str, variant: Variant, start: Form) -> str:
    technique = next(technique for one, technique in variant.steps if one == name)
    if start == "module":
        return f"legal order: {_legal(variant)}"
    if technique.gives == "onnx":
        return f"the baseline is an ONNX file already, drop {name}"
    return "it needs a baseline whose card names a torch model (model, but not hf, python or torch_export)"


def _legal(variant: Variant) -> str:
    """Order the steps as they could stand: modules first, then the export, then what takes ONNX, each after what it needs."""

    def rank(technique: Technique) -> int:
        return 0 if technique.gives == "module" else 1 if technique.takes == "module" else 2

    ordered = [name for name, _ in sorted(variant.steps, key=lambda step: rank(step[1]))]
    last = [rank(technique) for _, technique in variant.steps]
    if 2 in last and 1 not in last:
        ordered.insert(last.count(0), converter("module", "onnx"))
    for name, technique in variant.steps:
        place = ordered.index(name)
        if technique.after and not {*technique.after} & {*ordered[:place]}:
            later = next((one for one in ordered[place:] if one in technique.after), None)
            if later:
                ordered.remove(later)
            ordered.insert(place, later or " or ".join(technique.after))
    return " -> ".join(ordered)
