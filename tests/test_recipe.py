from pathlib import Path

import pytest

from efflab.errors import RequestError
from efflab.recipe import load_recipe, parse_recipe

ROOT = Path(__file__).parents[1]
HEAD = "name: x\nbaseline: digits-resnet-w3\n"


@pytest.fixture(autouse=True)
def _in_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def recipe(text):
    return parse_recipe(HEAD + text, ROOT / "recipes" / "x.yaml")


def problem(text, head=HEAD):
    with pytest.raises(RequestError) as caught:
        parse_recipe(head + text, ROOT / "recipes" / "x.yaml")
    return "\n".join(str(one) for one in caught.value.problems)


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_recipe_loads_and_says_how_to_run_it(path):
    loaded = load_recipe(path)
    assert loaded.spec.name == path.stem
    assert f"efflab run recipes/{path.name}" in loaded.text


def test_sweeps_multiply_and_name_their_variants():
    names = [
        v.name
        for v in recipe("""
variants:
  p:
    - prune_channels: {importance: l1, round_to: 1, sweep: {ratio: [0.25, 0.5]}}
    - finetune: {sweep: {epochs: [1.0, 2.0]}}
""").variants
        if v.role == "variant"
    ]
    assert names == [
        "p[ratio=0.25,epochs=1.0]",
        "p[ratio=0.25,epochs=2.0]",
        "p[ratio=0.5,epochs=1.0]",
        "p[ratio=0.5,epochs=2.0]",
    ]


def test_from_continues_each_expansion_and_shares_its_steps():
    variants = {
        v.name: v
        for v in recipe("""
variants:
  q: {from: p, steps: [{export_onnx: {}}]}
  p: [{prune_channels: {sweep: {ratio: [0.25, 0.5]}}}]
""").variants
    }
    assert variants["q[ratio=0.5]"].steps[0] == variants["p[ratio=0.5]"].steps[0]
    assert variants["q[ratio=0.5]"].parent == "p[ratio=0.5]"
    assert variants["q[ratio=0.5]"].own == 1


def test_a_choice_gets_a_random_control_and_what_follows_from_it_does_not():
    variants = {
        v.name: v
        for v in recipe("""
variants:
  p: [{prune_channels: {ratio: 0.5, importance: l1}}, {finetune: {}}]
  q: {from: p, steps: [{export_onnx: {}}]}
""").variants
    }
    assert set(variants) == {"p", "q", "p~random"}
    assert variants["p~random"].steps[0][1].importance == "random"
    assert variants["p~random"].steps[1] == variants["p"].steps[1]
    assert variants["p~random"].role == "control"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("variants: {p: [{prune_chanels: {}}]}", "did you mean 'prune_channels'?"),
        ("variants: {p: [{prune_channels: {ratoi: 0.5}}]}", "unknown key 'ratoi'; did you mean 'ratio'?"),
        ("variants: {p: [{prune_channels: {ratio: 1.5}}]}", "less than"),
        ("variants: {p: [{prune_channels: {ratio: half}}]}", "found 'half'"),
        ("variants: {p: [{prune_channels: {importance: l3}}]}", "importance"),
        ("variants: {p: []}", "no steps"),
        ("variants: {p: [{cast: {}, finetune: {}}]}", "exactly one technique"),
        ("variants: {p: [{quantize_static: {}}]}", "legal order: export_onnx -> quantize_static"),
        ("variants: {p: [{export_onnx: {}}, {finetune: {}}]}", "legal order: finetune -> export_onnx"),
        ("variants: {p: {from: q, steps: [{finetune: {}}]}, q: {from: p, steps: [{finetune: {}}]}}", "in a circle"),
        ("variants: {p: {from: p, steps: [{finetune: {}}]}}", "in a circle"),
        ("variants: {p: {from: pp, steps: [{finetune: {}}]}}", "unknown variant 'pp'"),
        ("variants: {p: [{finetune: {sweep: {epochs: 3}}}]}", "non-empty lists"),
        ("variants: {p: [{finetune: {epochs: 1.0, sweep: {epochs: [3.0]}}}]}", "also given outside the sweep"),
        ("variants:\n  p: [{finetune: {}}]\n  p: [{finetune: {}}]", "defined twice"),
        ("measure: {backends: [torhc]}", "did you mean 'torch'?"),
        ("measure: {backends: [{torch: {chanels_last: true}}]}", "did you mean 'channels_last'?"),
        ("measure: {backends: [torch, torch]}", "given twice"),
        ("measure: {backends: []}", "backends"),
        ("measure: {batch_sizes: [0]}", "greater than or equal to 1"),
        ("measure: {batch_sizes: [1, 1]}", "given twice"),
        ("measure: {margin: .nan}", "margin"),
        ("limits: {stage_s: -1}", "greater than 0"),
        ("variant: {}", "did you mean 'variants'?"),
    ],
)
def test_bad_recipes_name_the_place_and_the_mend(text, said):
    found = problem(text)
    assert said in found
    assert "recipes/x.yaml:" in found


def test_unknown_baselines_and_families_name_the_nearest():
    assert "did you mean 'digits-resnet-w3'?" in problem("", "name: x\nbaseline: digits-resnet-w33\n")
    assert "did you mean 'digits-resnet'?" in problem("", "name: x\nfamily: digits-resnets\n")
    assert "either baseline" in problem("", "name: x\n")
    assert "either baseline" in problem("", "name: x\nbaseline: a\nfamily: b\n")


def test_several_mistakes_are_all_reported():
    found = problem(
        "variants: {p: [{prune_chanels: {}}], q: [{finetune: {epohcs: 1}}]}\nmeasure: {backends: [nothing]}"
    )
    assert len(found.splitlines()) == 3
