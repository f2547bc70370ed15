import json

import pytest
from outcomes import recipe

from efflab.foundation.errors import RequestError
from efflab.recipe.recipe import parse_recipe
from efflab.suggest.advice import Expected, Suggestion
from efflab.suggest.outcome import current, recipe_of
from efflab.suggest.writing import backend_label, compact, listed, recipe_yaml

PRUNED = recipe(
    ("prune_channels", {"ratio": 0.3, "round_to": 1}), ("finetune", {"epochs": 2, "bf16": True}), "export_onnx"
)


def test_a_recipe_stands_on_one_line_with_what_is_not_usual():
    whole = tuple(current(step) for step in PRUNED)
    assert compact(whole) == compact(PRUNED)
    assert compact(PRUNED).startswith("prune_channels(ratio=0.3, round_to=1) > finetune(")
    assert compact(PRUNED).endswith("bf16=true) > export_onnx")


def test_backends_are_named_as_records_name_them():
    assert backend_label("openvino") == "openvino"
    assert backend_label("openvino[precision=bf16]") == "openvino[precision=bf16]"
    with pytest.raises(RequestError, match="unknown backend 'openvin'; did you mean 'openvino'"):
        backend_label("openvin")
    with pytest.raises(RequestError, match="the backend openvino has no such settings"):
        backend_label("openvino[precision=bf17]")


@pytest.mark.parametrize(
    ("text", "near"),
    [
        ("openvino[precision=bf16", "; did you mean 'openvino[precision=bf16]'?"),
        ("openvino]", "; did you mean 'openvino'?"),
        ("openvino[precision=bf16]]", "; did you mean 'openvino[precision=bf16]'?"),
        ("[]", ""),
        ("", ""),
    ],
)
def test_a_backend_with_half_a_pair_of_brackets_is_refused_with_the_nearest_spelling(text, near):
    with pytest.raises(RequestError) as caught:
        backend_label(text)
    assert str(caught.value).endswith(f"with both brackets, not {text!r}{near}")


def test_settings_that_are_no_yaml_are_refused():
    with pytest.raises(RequestError, match="cannot be read; write openvino"):
        backend_label("openvino[precision={]")


def test_a_note_names_two_recipes_and_counts_the_others():
    some = [recipe("cast"), recipe("fold_norms"), recipe("export_onnx"), recipe("finetune")]
    assert listed(some[:1]) == "cast"
    assert listed(some[:2]) == "cast; fold_norms"
    assert listed(some) == "cast; fold_norms and 2 more"


def test_the_recipe_file_holds_the_suggested_steps():
    one = Suggestion(tuple(current(step) for step in PRUNED), Expected(1.2, 1.0, 1.4), None, None, 3, ("x",), False)
    text = recipe_yaml("digits-resnet-w8", "openvino[precision=bf16]", 4, [one, one], "efflab suggest x", [0, 1])
    found = parse_recipe(text)
    assert [variant.name for variant in found.variants if variant.role == "variant"] == ["top1", "top2"]
    steps = [{name: technique.model_dump(mode="json")} for name, technique in found.variants[0].steps]
    assert recipe_of(steps) == one.recipe
    assert [backend.label for backend in found.backends] == ["openvino[precision=bf16]"]
    assert found.spec.measure.batch_sizes == [4]
    assert found.spec.measure.seeds == [0, 1]
    assert json.dumps(text).count("expected 1.20x [1.00, 1.40]") == 2
