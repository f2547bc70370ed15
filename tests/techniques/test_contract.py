"""What every technique promises: the checks of `efflab validate technique`; a new file in efflab/techniques is covered at once."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from efflab.foundation import registry
from efflab.validation.techniques.checks import CHECKS, judge, promise
from efflab.validation.techniques.workplace import Workplace

TECHNIQUES = registry.names("techniques")


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    return Workplace(tmp_path_factory.mktemp("workplace"))


@pytest.mark.parametrize("name", TECHNIQUES)
@pytest.mark.parametrize("check", CHECKS)
def test_keeps_its_promise(check: str, name: str, workplace: Workplace) -> None:
    found = judge(check, name, workplace)
    if found.verdict in ("unavailable", "skipped"):
        pytest.skip(found.detail)
    assert found.verdict in ("pass", "refused"), found.detail


def test_an_export_that_is_ruled_out_is_no_pass(workplace: Workplace) -> None:
    found = judge("survives_export", "choose_exits", workplace)
    assert found.verdict == "skipped"
    assert found.detail == f"it has no ONNX form: {workplace.technique('choose_exits').no_onnx()}"
    assert judge("survives_export", "fold_norms", workplace).verdict == "pass"


@pytest.mark.parametrize("check", CHECKS)
def test_each_promise_is_one_sentence(check: str) -> None:
    assert promise(check).endswith(".")
    assert "\n" not in promise(check)


BAD = [
    ("prune_channels", {"ratio": 1.0}),
    ("prune_channels", {"ratio": 0.0}),
    ("prune_channels", {"importance": "l3"}),
    ("finetune", {"epochs": 0.0}),
    ("finetune", {"learning_rate": float("nan")}),
    ("distill", {"weight": 1.5}),
    ("distill", {"temperature": 0.0}),
    ("export_onnx", {"opset": 7}),
    ("prune_weights", {"sparsity": 1.0}),
    ("prune_weights", {"pattern": "1:2"}),
    ("low_rank", {"energy": 1.0}),
    ("reestimate_norms", {"examples": 1}),
    ("quantize_weights", {"bits": 3}),
    ("quantize_static", {"calibration_examples": 0}),
    ("quantize_static", {"engine": "nncf", "calibrator": "entropy"}),
    ("quantize_dynamic", {"per_channel": "yes"}),
    ("cast", {"dtype": "float32"}),
    ("add_exits", {"hidden": -1}),
    ("choose_exits", {"loss": 1.0}),
    ("choose_exits", {"confidence": "margin"}),
    ("merge_tokens", {"ratio": 0.6}),
    ("merge_tokens", {"similarity": 1.0}),
]


@pytest.mark.parametrize(("name", "settings"), BAD)
def test_refuses_values_out_of_range(name: str, settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        registry.load("techniques", name)(**settings)


# A technique that keeps every promise: it halves the weights of layers, as `share` says.
SOUND = '''
"""Scales the weights of layers."""

from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field

from efflab import RequestError, Unavailable
from efflab import Result, Technique


class NAME(Technique):
    """Scale the weights of layers."""

    takes: ClassVar[str] = "module"
    gives: ClassVar[str] = "module"
    tiny: ClassVar[dict[str, Any]] = {"share": 0.5}

    share: Annotated[float, Field(gt=0, lt=1)] = 0.5

    def apply(self, model, context):
        """Scale."""
        name(model, self.share)
        return Result(model)


def name(module, share):
    """Scale in place."""
    with torch.no_grad():
        for layer in module.modules():
            if isinstance(layer, (torch.nn.Conv2d, torch.nn.Linear)):
                layer.weight.mul_(share)
'''
TINY = '    tiny: ClassVar[dict[str, Any]] = {"share": 0.5}\n'
WORKS = {check for check in CHECKS if check.startswith("works_on")}
BODY = "        name(model, self.share)\n"
LAYER = "                layer.weight.mul_(share)\n"

# name -> (what of SOUND is replaced, by what, the check that is meant for it, what that says)
FAULTS: dict[str, tuple[str, str, str, str]] = {
    "does_nothing": (BODY, "", "changes_the_model", "it changes nothing in the resnet"),
    "claims_macs": (
        TINY, f'{TINY}    claims: ClassVar[tuple[str, ...]] = ("macs",)\n', "moves_its_claims", "it claims macs, which goes from",
    ),
    "claims_quality": (
        TINY, f'{TINY}    claims: ClassVar[tuple[str, ...]] = ("quality",)\n', "moves_its_claims", "ledger of work does not hold",
    ),
    "not_repeatable": (
        LAYER, "                layer.weight.mul_(0.5 + torch.rand((), generator=LOOSE))\n\n\nLOOSE = torch.Generator()\n",
        "repeats_itself", "it gives two models",
    ),
    "draws_in_secret": (
        LAYER, "                layer.weight.mul_(0.5 + torch.rand(()))\n", "draws_as_it_says", "ClassVar[bool] = True",
    ),
    "says_it_draws": (TINY, f"{TINY}    random: ClassVar[bool] = True\n", "draws_as_it_says", "gives the same model"),
    "without_tiny": (TINY, "", "has_a_tiny_setting", "it does not say `tiny"),
    "refuses_tiny": ("0.5}", "1.5}", "has_a_tiny_setting", "it refuses its own tiny setting"),
    "other_shape": (
        BODY, f"{BODY}        import torch.nn.functional as F\n        from torch.nn import Linear\n"
        "        fc = [(n, m) for n, m in model.named_modules() if isinstance(m, Linear)][-1]\n"
        "        torch.manual_seed(0)\n"
        "        model.set_submodule(fc[0], Linear(fc[1].in_features, 5))\n"
        "        return Result(model, {'layer': fc[0]})\n\n"
        "    @classmethod\n    def rebuild(cls, module, structure):\n"
        "        from torch.nn import Linear\n"
        "        old = module.get_submodule(structure['layer'])\n"
        "        module.set_submodule(structure['layer'], Linear(old.in_features, 5))\n        return module\n\n"
        "    def more(self, model):\n",
        "keeps_the_interface", "gives shapes [(1, 5)]",
    ),
    "forgets_rebuild": (
        BODY, f"{BODY}        model.register_forward_hook(lambda module, given, found: 2 * found)\n",
        "survives_the_disk", "stored and loaded, differs",
    ),
    "spoils_the_task": (
        BODY, f"{BODY}        context.task.split('train').inputs[0][:] = 0\n", "leaves_the_rest_alone",
        "inputs of the task's train",
    ),
    "takes_anything": (
        "    share: Annotated[float, Field(gt=0, lt=1)] = 0.5", "    share: Any = 0.5", "refuses_bad_values", "setting share takes",
    ),
    "has_no_limit": (
        "    share: Annotated[float, Field(gt=0, lt=1)]", "    share: float", "refuses_bad_values", "-1000000000.0",
    ),
    "ignores_keys": (
        TINY, f"{TINY}    model_config = {{'extra': 'ignore'}}\n", "refuses_unknown_keys", "`no_such_setting`",
    ),
    "is_not_documented": ('    """Scale the weights of layers."""\n', "", "says_what_it_is", "class IsNotDocumented"),
    "is_no_function": ("\ndef name(", "\ndef other(", "says_what_it_is", "no plain function"),
    "names_nobody": (
        TINY, f'{TINY}    rather_after: ClassVar[dict[str, str]] = {{"prune": "x"}}\n', "says_what_it_is", "'prune', which is no",
    ),
    "control_is_the_same": (
        BODY, f"{BODY}        return Result(model)\n\n    def control(self):\n        return self\n\n    def more(self, model):\n",
        "control_changes_one_setting", "differs by nothing",
    ),
    "refuses_namelessly": (
        BODY, f"{BODY}        if hasattr(model, 'blocks'):\n            raise RequestError('no blocks please')\n",
        "works_on_transformer", "refuses without its name",
    ),
    "gives_nan": (LAYER, LAYER.replace("share", "float('nan')"), "works_on_resnet", "not finite"),
    "has_no_graph": (
        BODY, f"{BODY}        return Result(self.rebuild(model, 1), 1)\n\n"
        "    @classmethod\n    def rebuild(cls, module, structure):\n"
        "        module.register_forward_hook(lambda module, given, found: found if float(found.sum()) < 1e9 else found * 0)\n"
        "        return module\n\n    def more(self, model):\n",
        "survives_export", "no_onnx() does not say why",
    ),
}  # fmt: skip
# faults that leave nothing right for another check to see
ALSO = {"is_no_function": WORKS, "gives_nan": WORKS}


def drop_in(folder: Path, name: str, old: str, new: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put SOUND with a fault in it among the techniques."""
    assert old in SOUND
    text = SOUND.replace(old, new).replace("NAME", registry.class_name(name))
    text = text.replace(" name(", f" {name}(").replace("\nname(", f"\n{name}(")
    write(folder, name, text, monkeypatch)


def write(folder: Path, name: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "techniques").mkdir()
    (folder / "techniques" / f"{name}.py").write_text(text)
    monkeypatch.setenv("EFFLAB_PLUGINS", str(folder))
    registry.sources.cache_clear()


def broken(name: str, workplace: Workplace, checks: Iterable[str]) -> dict[str, str]:
    findings = [judge(check, name, workplace) for check in checks]
    return {found.check: found.detail for found in findings if found.verdict == "broken"}


def test_a_sound_technique_from_outside_passes(
    workplace: Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drop_in(tmp_path, "sound", "", "", monkeypatch)
    assert {judge(check, "sound", workplace).verdict for check in CHECKS} == {"pass"}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_caught_by_the_check_that_is_meant_for_it(
    name: str, workplace: Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new, check, says = FAULTS[name]
    drop_in(tmp_path, name, old, new, monkeypatch)
    found = broken(name, workplace, {*CHECKS} - ({"survives_export"} - {check}))  # that one takes seconds
    assert says in found.pop(check, "not caught"), found
    assert {*found} <= ALSO.get(name, set())


# A technique on graphs that takes what it says may not stand before it.
CARELESS = '''
"""Writes its name into a graph."""

from typing import Any, ClassVar

from efflab import Result, Technique


class Careless(Technique):
    """Write its name into a graph."""

    takes: ClassVar[str] = "onnx"
    gives: ClassVar[str] = "onnx"
    after: ClassVar[tuple[str, ...]] = ("export_onnx",)
    before: ClassVar[tuple[str, ...]] = ("quantize_static",)
    tiny: ClassVar[dict[str, Any]] = {}

    def apply(self, model, context):
        """Write."""
        careless(model, context.folder / "model.onnx")
        return Result(context.folder / "model.onnx")


def careless(source, target):
    """Write a copy that names it."""
    import onnx

    graph = onnx.load(source)
    graph.producer_name = "careless"
    onnx.save(graph, target)
'''


def test_a_graph_from_outside_that_is_quantised_already_must_be_refused(
    workplace: Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "careless", CARELESS, monkeypatch)
    found = broken("careless", workplace, CHECKS)
    assert [*found] == ["refuses_what_may_not_stand_before"]
    assert "it takes a graph that quantize_static made" in found["refuses_what_may_not_stand_before"]


def test_what_stands_in_after_is_applied_first(
    workplace: Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needy = f'{TINY}    after: ClassVar[tuple[str, ...]] = ("prune_weights",)\n'
    guard = "        if not any(float((p == 0).float().mean()) > 0.4 for p in model.parameters()):\n            raise ValueError\n"
    drop_in(tmp_path, "needy", TINY, needy, monkeypatch)
    path = tmp_path / "techniques" / "needy.py"
    path.write_text(path.read_text().replace("        needy(", f"{guard}        needy("))
    assert not broken("needy", workplace, CHECKS)


def test_a_missing_package_is_no_fault_and_is_told(
    workplace: Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drop_in(
        tmp_path, "lacking", BODY, "        raise Unavailable('chip is not installed: pip install chip')\n", monkeypatch
    )
    found = {judge(check, "lacking", workplace) for check in CHECKS}
    assert {one.verdict for one in found} == {"pass", "unavailable"}
    assert {one.detail for one in found} == {"", "chip is not installed: pip install chip"}


def test_a_technique_that_refuses_every_net_proves_nothing(
    workplace: Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drop_in(tmp_path, "aloof", BODY, "        raise RequestError('aloof: not this one')\n", monkeypatch)
    assert judge("works_on_resnet", "aloof", workplace).verdict == "refused"
    assert "refused for every family of nets" in broken("aloof", workplace, CHECKS)["changes_the_model"]
