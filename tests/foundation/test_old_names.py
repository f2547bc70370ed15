"""Import paths of earlier releases: each still gives what it gave, and says where that is now."""

import subprocess
import sys
from importlib import import_module

import pytest

import efflab
from efflab.foundation.old_names import MOVED

PLUGIN = """
from efflab.technique import Context, Form, Result, Technique
from efflab.errors import RequestError

class Written(Technique):
    takes = gives = "module"
    tiny = {}
    def apply(self, model, context): return Result(model)
"""


@pytest.mark.parametrize("old", sorted(MOVED))
def test_every_new_home_exists(old):
    for home in MOVED[old].split():
        import_module(f"efflab.{home}")


@pytest.mark.parametrize(
    ("old", "name", "better"),
    [
        ("efflab.technique", "Technique", "efflab"),
        ("efflab.technique", "Form", "efflab"),
        ("efflab.backend", "Session", "efflab"),
        ("efflab.task", "Split", "efflab"),
        ("efflab.classification", "Classification", "efflab"),
        ("efflab.calibration", "refuse_quantized", "efflab.model_surgery.quantization.already_quantized"),
        ("efflab.store", "Store", "efflab.records.store"),
        ("efflab.recipe", "load_recipe", "efflab.recipe.recipe"),
        ("efflab.training", "fit", "efflab.training.trainer"),
        ("efflab.profiling.work", "count_module", "efflab.profiling.work_module"),
    ],
)
def test_an_old_path_gives_the_same_and_says_the_new_one(old, name, better):
    with pytest.warns(FutureWarning, match=f"write `from {better} import {name}`"):
        found = getattr(import_module(old), name)
    homes = [*MOVED.get(old.removeprefix("efflab."), "").split(), "recipe.recipe", "training.trainer"]
    assert any(getattr(import_module(f"efflab.{home}"), name, None) is found for home in homes)


def test_what_was_never_there_is_no_old_name():
    with pytest.raises(ImportError, match="nothing_like_this"):
        exec("from efflab.technique import nothing_like_this")
    with pytest.raises(ImportError):
        exec("import efflab.nothing_like_this")
    with pytest.raises(ImportError):
        exec("from efflab.plan import nothing_like_this")


def test_a_plugin_of_the_last_release_still_loads(in_folder, monkeypatch):
    from efflab.foundation import registry

    (in_folder / "plugins" / "techniques").mkdir(parents=True)
    (in_folder / "plugins" / "techniques" / "written.py").write_text(PLUGIN)
    monkeypatch.setenv("EFFLAB_PLUGINS", str(in_folder / "plugins"))
    registry.sources.cache_clear()
    registry.load.cache_clear()
    with pytest.warns(FutureWarning, match="from efflab import Technique"):
        loaded = registry.load("techniques", "written")
    assert issubclass(loaded, efflab.Technique)


def test_public_names_are_read_only_when_asked_for():
    for name in efflab.PUBLIC:
        assert getattr(efflab, name).__name__ == name or name in ("Form", "Arrays")
    program = "import sys, efflab; print(sorted({'torch', 'numpy', 'pydantic', 'onnx'} & set(sys.modules)))"
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"
