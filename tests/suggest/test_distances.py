import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from outcomes import HERE, model, recipe

from efflab.suggest.distances import (
    CONTEXT_ASPECTS,
    RECIPE_ASPECTS,
    TrialContext,
    context_distances,
    context_of,
    recipe_distances,
)
from efflab.suggest.outcome import Target

VALUES = st.one_of(
    st.booleans(), st.none(), st.integers(-4, 600), st.floats(1e-6, 1e3), st.sampled_from(["l2", "taylor"])
)
STEPS = st.tuples(
    st.sampled_from(["prune_channels", "finetune", "cast", "export_onnx"]),
    st.dictionaries(st.sampled_from(["ratio", "epochs", "importance"]), VALUES, max_size=3),
)
RECIPES = st.lists(st.lists(STEPS, min_size=1, max_size=4).map(lambda steps: recipe(*steps)), min_size=2, max_size=6)


@given(RECIPES)
def test_a_distance_is_symmetric_and_nothing_from_a_recipe_to_itself(recipes):
    distances = recipe_distances(recipes)
    assert distances.shape == (len(RECIPE_ASPECTS), len(recipes), len(recipes))
    assert np.allclose(distances, distances.transpose(0, 2, 1))
    assert (distances >= 0).all()
    assert not distances[:, range(len(recipes)), range(len(recipes))].any()


@given(RECIPES, st.floats(0.01, 5), st.floats(0.01, 5))
def test_likeness_of_recipes_is_a_kernel(recipes, first, second):
    distances = recipe_distances(recipes)
    alike = np.exp(-first * distances[0] - second * distances[1] - distances[2])
    assert np.linalg.eigvalsh(alike).min() > -1e-9


def test_recipes_lie_as_far_apart_as_worked_out_by_hand():
    recipes = [
        recipe(("prune_channels", {"ratio": 0.25, "importance": "l2"}), ("finetune", {"epochs": 1})),
        recipe(("prune_channels", {"ratio": 0.5, "importance": "taylor"}), ("finetune", {"epochs": 1})),
        recipe(("finetune", {"epochs": 1}), ("prune_channels", {"ratio": 0.25, "importance": "l2"})),
        recipe(("prune_channels", {"ratio": 0.25, "importance": "l2"})),
    ]
    techniques, settings, order = recipe_distances(recipes)
    assert techniques.tolist() == [[0, 0, 0, 1], [0, 0, 0, 1], [0, 0, 0, 1], [1, 1, 1, 0]]
    assert math.isclose(settings[0, 1], math.log(2) + 1)  # twice the ratio, another word
    assert settings[0, 2] == 0
    assert order[0].tolist() == [0, 0, 1, 0.5]  # turned round; where one is missing nothing stands in an order


def test_words_that_differ_lie_one_apart_whichever_is_usual():
    recipes = [recipe(("cast", {"dtype": one})) for one in ("a", "a", "b", "c")]
    settings = recipe_distances(recipes)[1]
    assert settings[0].tolist() == [0, 0, 1, 1]
    assert settings[2].tolist() == [1, 1, 0, 1]


def test_contexts_lie_as_far_apart_as_worked_out_by_hand():
    one = TrialContext(model(macs=1e6), Target("openvino", 1, "m1"))
    other = TrialContext(
        model("cifar10-vit-w8", macs=1e7, task="cifar10", error=0.2), Target("openvino[precision=bf16]", 64, "m2")
    )
    found = dict(zip(CONTEXT_ASPECTS, context_distances([one, other])[:, 0, 1], strict=True))
    expected = {
        "baseline": 1, "task": 1, "kind": 1, "macs": math.log(10), "params": math.log(10), "error": math.log(2), "backend": 0.5,
        "batch": math.log(64), "machine": 1,
    }  # fmt: skip
    assert {name: round(value, 9) for name, value in found.items()} == {
        name: round(value, 9) for name, value in expected.items()
    }
    elsewhere = TrialContext(one.model, Target("torch", 1, "m1"))
    backend = CONTEXT_ASPECTS.index("backend")
    assert context_distances([one, elsewhere])[backend, 0, 1] == 1
    assert context_distances([one, other], [one]).shape == (len(CONTEXT_ASPECTS), 1, 2)


def test_what_is_counted_has_no_machine_and_no_batch_size():
    place = Target("openvino", 64, "m2")
    assert context_of(model(), place, "time").place == place
    assert context_of(model(), place, "bits") == context_of(model(), Target("openvino", 1, "m1"), "bits")
    assert context_of(model(), HERE, "error") == context_of(model(), Target("onnxruntime", 64, "m2"), "error")
