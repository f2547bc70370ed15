"""What is wrong with the files of cards is found when a recipe is planned, with the card's file, line and key."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from worlds import TINY_TASK, efflab, make_card, make_recipe

from efflab.cards.weights import read_header
from efflab.foundation.errors import RequestError
from efflab.foundation.files import file_digest
from efflab.recipe.recipe import load_recipe

CAST = "p: [{cast: {}}]"


def said(path):
    with pytest.raises(RequestError) as caught:
        load_recipe(path)
    return [str(problem) for problem in caught.value.problems]


def damaged(path, how):
    content = path.read_bytes()
    if how == "missing":
        path.unlink()
    else:
        path.write_bytes(
            {"cut": content[:-100], "stub": content[:5], "text": b"no weights", "other": content[:-1] + b"x"}[how]
        )


@pytest.mark.parametrize(
    ("how", "what"),
    [
        ("missing", r"weights[0].file: the file {path} is missing"),
        ("cut", "weights[0].file: tiny-s0.safetensors is {short:,} bytes long, its header says {whole:,}"),
        ("stub", "weights[0].file: tiny-s0.safetensors is no safetensors file"),
        ("text", "weights[0].file: tiny-s0.safetensors is no safetensors file"),
        ("other", "weights[0].sha256: tiny-s0.safetensors has sha256 "),
    ],
)
def test_damaged_weights_are_found_by_the_plan(in_folder, how, what):
    card = make_card(in_folder)
    weights = card.with_name("tiny-s0.safetensors")
    whole = weights.stat().st_size
    damaged(weights, how)
    (found,) = said(make_recipe(in_folder, CAST))
    assert found.startswith(f"baselines/tiny.yaml:5: {what.format(path=weights, short=whole - 100, whole=whole)}")


def test_damaged_weights_of_a_family_member_are_found_too_and_unused_ones_are_let_be(in_folder):
    make_card(in_folder, family="f")
    other = make_card(in_folder, name="wide", width=6, family="f")
    damaged(other.with_name("wide-s1.safetensors"), "other")
    (found,) = said(make_recipe(in_folder, CAST))
    assert found.startswith("baselines/wide.yaml:7: weights[1].sha256: ")
    assert load_recipe(make_recipe(in_folder, CAST, measure="seeds: [0]"))


def test_a_damaged_teacher_is_found_too(in_folder):
    make_card(in_folder)
    damaged(make_card(in_folder, name="wide", width=6).with_name("wide-s0.safetensors"), "missing")
    (found,) = said(make_recipe(in_folder, "p: [{prune_channels: {}}, {distill: {teacher: wide}}]"))
    assert found.startswith("baselines/wide.yaml:5: weights[0].file: ")


@pytest.mark.parametrize(
    ("lines", "what"),
    [
        ("model: {resnet_cifar: {}}", "1: weights: the card has no weights, and no `training` section"),
        (
            "model: {resnet_cifar: {}}\ntraining: {epochs: 1}",
            "1: weights: the card has no weights yet; `efflab train tiny`",
        ),
        ("python: {file: net.py, function: build}", "3: python.file: the file {here}/net.py is missing"),
        ("onnx: net.onnx", "3: onnx: the file {here}/net.onnx is missing"),
        ("torch_export: net.pt2", "3: torch_export: the file {here}/net.pt2 is missing"),
        ("torch_export: tiny.yaml", "3: torch_export: tiny.yaml is no torch.export file"),
        (
            "model: {resnet_cifar: {}}\nweights: [{url: 'file:///etc/passwd', sha256: '" + "0" * 64 + "'}]",
            "4: weights[0].url: must begin with https:// or http://",
        ),
    ],
)
def test_a_card_that_cannot_give_a_model_is_found_by_the_plan(in_folder, lines, what):
    (in_folder / "baselines").mkdir()
    (in_folder / "baselines" / "tiny.yaml").write_text(f"name: tiny\ntask: {TINY_TASK}\n{lines}\n")
    found = said(make_recipe(in_folder, CAST))
    assert any(one.startswith(f"baselines/tiny.yaml:{what.format(here=in_folder / 'baselines')}") for one in found)


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ("model: {resnet_cifar: {}}\nweights: [{file: FILE, sha256: '" + "0" * 64 + "'}]", "4: weights[0].file"),
        ("python: {file: FILE, function: build}", "3: python.file"),
        ("onnx: FILE", "3: onnx"),
        ("torch_export: FILE", "3: torch_export"),
    ],
)
def test_a_file_of_a_name_that_no_file_can_have_is_missing_with_its_place(in_folder, line, key):
    (in_folder / "baselines").mkdir()
    card = in_folder / "baselines" / "tiny.yaml"
    card.write_text(f"name: tiny\ntask: {TINY_TASK}\n{line.replace('FILE', 'f' * 10_000)}\n")
    found = said(make_recipe(in_folder, CAST))
    assert any(one.startswith(f"baselines/tiny.yaml:{key}: the file ") and one.endswith(" is missing") for one in found)


@pytest.mark.parametrize("end", ["", ".yaml"])
def test_a_card_of_a_name_that_no_file_can_have_is_unknown_with_its_place(in_folder, end):
    make_card(in_folder)
    name = "b" * 10_000 + end
    for steps in (f"p: [{{distill: {{teacher: {name}}}}}]", f"p: {{start: {name}, steps: [{{cast: {{}}}}]}}"):
        (found,) = said(make_recipe(in_folder, steps))
        assert "r.yaml:4: variants.p" in found
        assert "unknown baseline 'bbb" in found or "there is no card at bbb" in found
    recipe = make_recipe(in_folder, CAST)
    recipe.write_text(recipe.read_text().replace("baseline: tiny", f"baseline: {name}"))
    assert "r.yaml:2: baseline: " in said(recipe)[0]


def test_a_digest_without_quotes_is_told_to_have_them(in_folder):
    card = make_card(in_folder)
    card.write_text(card.read_text().replace(file_digest(card.with_name("tiny-s0.safetensors")), "12" * 32))
    assert "weights[0].sha256: must be text; put it in quotes (found 12121212" in said(make_recipe(in_folder, CAST))[0]


def test_weights_at_a_url_are_not_fetched_by_the_plan(in_folder):
    card = make_card(in_folder)
    card.write_text(card.read_text().replace("file: tiny-s0.safetensors", "url: 'http://127.0.0.1:1/w.safetensors'"))
    assert load_recipe(make_recipe(in_folder, CAST))


def test_planning_finds_it_without_torch_and_exits_with_2(in_folder):
    damaged(make_card(in_folder).with_name("tiny-s1.safetensors"), "cut")
    make_recipe(in_folder, CAST)
    done = efflab("plan", "r.yaml", cwd=in_folder)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    program = (
        "import sys; from efflab.cli.main import main; main(['plan', 'r.yaml']); assert 'torch' not in sys.modules"
    )
    paths = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    subprocess.run([sys.executable, "-c", program], cwd=in_folder, check=True, env=paths, capture_output=True)


def test_a_header_gives_shapes(in_folder):
    header = read_header(make_card(in_folder).with_name("tiny-s0.safetensors"))
    assert header["shapes"]["linear.weight"] == [10, 16]
