"""Plug-ins that cannot be used are listed with their reason; all others work."""

import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from worlds import make_card, make_recipe

from efflab.cli.main import main
from efflab.foundation import registry
from efflab.foundation.errors import RequestError
from efflab.recipe.recipe import load_recipe

ROOT = Path(__file__).parents[2]
TECHNIQUE = """
from typing import ClassVar
from efflab import Result, Technique

class {name}(Technique):
    {body}
"""
APPLY = "def apply(self, model, context): return Result(model)"
BROKEN = {
    "formless": (
        TECHNIQUE.format(name="Formless", body=APPLY),
        "it must say `takes: ClassVar = ...`, one of 'module', 'onnx'",
    ),
    "idle": (TECHNIQUE.format(name="Idle", body="takes = gives = None"), "it does not define apply"),
    "wrong_name": (TECHNIQUE.format(name="Other", body=APPLY), "must define 'WrongName'"),
    "plain": ("class Plain: pass", "it is no class derived from efflab.Technique"),
    "crash": ("1 / 0", "fails on import: ZeroDivisionError: division by zero"),
    "leaves": ("raise SystemExit(3)", "fails on import: SystemExit: 3"),
    "interrupts": ("raise KeyboardInterrupt", "fails on import: KeyboardInterrupt"),
    "base": ("raise BaseException('odd')", "fails on import: BaseException: odd"),
    "cast": ("x = 1", "two techniques are named 'cast'"),
}
POINTS = {"gone": "no_such_module_anywhere:Gone", "hole": "efflab.contracts.technique:NoSuchClass"}


@pytest.fixture
def plugins(in_folder, monkeypatch):
    folder = in_folder / "plugins"
    (folder / "techniques").mkdir(parents=True)
    (folder / "backends").mkdir()
    monkeypatch.setenv("EFFLAB_PLUGINS", str(folder))
    registry.sources.cache_clear()
    registry.load.cache_clear()
    return folder


@pytest.fixture
def broken(plugins, monkeypatch):
    for name, (source, _) in BROKEN.items():
        (plugins / "techniques" / f"{name}.py").write_text(source)
    (plugins / "backends" / "torch.py").write_text("import nothing_like_this")
    (plugins / "backends" / "moody.py").write_text(
        "from efflab import Backend\n\nclass Moody(Backend):\n    takes = 'onnx'\n"
        "    @classmethod\n    def available(cls): return 1 / 0\n    def prepare(self, *_): pass\n"
    )
    points = [EntryPoint(name, value, "efflab.techniques") for name, value in POINTS.items()]
    monkeypatch.setattr(registry, "entry_points", lambda group: points if group == "efflab.techniques" else [])


def table(capsys, *words):
    assert main([*words, "--format", "json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    return {row.get("name", row.get("what")): row.get("about", row.get("value")) for row in rows}


@pytest.mark.parametrize("name", [*BROKEN, *POINTS])
def test_a_broken_technique_is_listed_with_its_reason_and_refused_by_a_recipe_in_one_line(
    name, in_folder, broken, capsys
):
    reason = BROKEN[name][1] if name in BROKEN else f"entry point {POINTS[name]} fails to load: "
    about = table(capsys, "ls", "techniques")
    assert about[name].startswith("cannot be used: ")
    assert reason in about[name]
    assert "cannot be used" not in about["prune_channels"]
    make_card(in_folder)
    with pytest.raises(RequestError) as caught:
        load_recipe(make_recipe(in_folder, f"p: [{{{name}: {{}}}}]"))
    (problem,) = caught.value.problems
    assert reason in problem.what
    assert "variants.p[0]" in problem.where
    assert load_recipe(make_recipe(in_folder, "p: [{finetune: {}}]"))


def test_what_a_plugin_prints_while_it_is_imported_stays_out_of_what_was_asked_for(plugins, capsys):
    (plugins / "techniques" / "loud.py").write_text("print('welcome')")
    assert main(["ls", "techniques", "--format", "json"]) == 0
    told = capsys.readouterr()
    assert "loud" in {row["name"] for row in json.loads(told.out)}
    assert "welcome" in told.err


def test_a_signal_ends_an_import_as_it_ends_anything_else(plugins):
    (plugins / "techniques" / "slow.py").write_text("import signal\nsignal.raise_signal(signal.SIGINT)")
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        registry.load("techniques", "slow")
    assert signal.getsignal(signal.SIGINT) is before
    (plugins / "techniques" / "slow.py").write_text("raise KeyboardInterrupt")
    with ThreadPoolExecutor() as threads:  # signals come to the main thread alone
        error = threads.submit(registry.load, "techniques", "slow").exception()
    assert isinstance(error, RequestError)
    assert "slow.py fails on import: KeyboardInterrupt" in str(error)


def test_what_is_no_file_among_plugins_is_named_and_hides_nothing(in_folder, plugins, capsys):
    folder = plugins / "techniques"
    (folder / "mine.py").write_text(TECHNIQUE.format(name="Mine", body=f"takes = gives = 'module'\n\n    {APPLY}"))
    (folder / "dangling.py").symlink_to("nowhere.py")
    (folder / "loop.py").symlink_to("loop.py")
    (folder / "device.py").symlink_to("/dev/zero")
    (folder / "folder.py").mkdir()
    (folder / "cast.py").mkdir()
    os.mkfifo(folder / "pipe.py")
    (plugins / "tasks").symlink_to("nowhere")
    kinds = {"dangling": "a link that leads nowhere", "loop": "a link that leads nowhere", "device": "no regular file"}
    kinds |= {"folder": "a folder", "pipe": "no regular file", "cast.py": "a folder"}
    about = table(capsys, "ls", "techniques")
    for name, kind in kinds.items():
        path = folder / f"{name.removesuffix('.py')}.py"
        assert about[name] == f"cannot be used: {path} is {kind}, and a plug-in is a Python file; take it away"
    assert "cannot be used" not in about["mine"]
    assert "cannot be used" not in about["cast"]
    assert main(["schema", "recipe"]) == 0
    assert len(capsys.readouterr().err.splitlines()) == len(kinds)
    with pytest.raises(RequestError, match="is a folder, and a plug-in is a Python file"):
        registry.load("techniques", "folder")


def test_doctor_and_schema_work_beside_broken_plugins(broken, capsys):
    state = table(capsys, "doctor")
    assert "two backends are named 'torch'" in state["backend torch"]
    assert state["backend moody"] == "its available() fails: ZeroDivisionError: division by zero"
    assert state["backend onnxruntime"] == "present"
    assert main(["schema", "recipe"]) == 0
    shown = capsys.readouterr()
    steps = json.loads(shown.out)["$defs"]["Step"]["properties"]
    assert "prune_channels" in steps
    assert not {*BROKEN, *POINTS} & set(steps)
    assert len(shown.err.splitlines()) == len(BROKEN) + len(POINTS) + 1  # one backend clashes


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("/nonexistent", "EFFLAB_PLUGINS names /nonexistent, which is no folder"),
        (__file__, "which is no folder"),
        (str(ROOT / "tests" / "cli"), "which has none of the folders techniques/, backends/, tasks/, models/"),
    ],
)
def test_a_wrong_folder_of_plugins_is_said_so(entry, said, monkeypatch, capsys):
    registry.sources.cache_clear()
    monkeypatch.setenv("EFFLAB_PLUGINS", entry)
    assert main(["ls", "techniques"]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["techniques", "backends", "tasks", "models"])
def test_an_unknown_name_tells_where_own_plugins_are_looked_up(kind, in_folder, monkeypatch):
    def told():
        registry.sources.cache_clear()
        with pytest.raises(RequestError) as caught:
            registry.load(kind, "my-own")
        return str(caught.value)

    monkeypatch.delenv("EFFLAB_PLUGINS", raising=False)
    where = "your own are looked up in folders that the variable EFFLAB_PLUGINS names"
    assert told().startswith(f"unknown {registry.KINDS[kind]} 'my-own'; ")
    assert told().endswith(f"; {where}, which is not set")
    (in_folder / "extras" / kind).mkdir(parents=True)
    (in_folder / "other" / kind).mkdir(parents=True)
    monkeypatch.setenv("EFFLAB_PLUGINS", "other")
    assert told().endswith(f"; {where}: other/{kind}/")
    file = in_folder / "extras" / kind / "my_own.py"
    file.write_text("")
    assert told().endswith(f"; there is extras/{kind}/my_own.py: set EFFLAB_PLUGINS=other:extras")
    monkeypatch.delenv("EFFLAB_PLUGINS")
    assert told().endswith(f"{where}, which is not set; there is extras/{kind}/my_own.py: set EFFLAB_PLUGINS=extras")
    file.parent.rename(in_folder / kind)
    assert told().endswith(f"there is {kind}/my_own.py: set EFFLAB_PLUGINS=.")


@pytest.mark.parametrize("name", ["", "/etc/passwd", "a/../b", "*", "x" * 300, "[", "a\0b"])
def test_any_name_is_an_error_in_one_sentence(name, in_folder):
    with pytest.raises(RequestError, match="unknown task"):
        registry.load("tasks", name)


def test_a_recipe_names_the_variable_too(in_folder, monkeypatch):
    monkeypatch.delenv("EFFLAB_PLUGINS", raising=False)
    card = make_card(in_folder)
    card.write_text(card.read_text().replace("{digits_clutter:", "{my_task:"))
    (in_folder / "plugins" / "tasks").mkdir(parents=True)
    (in_folder / "plugins" / "tasks" / "my_task.py").write_text("")
    with pytest.raises(RequestError) as caught:
        load_recipe(make_recipe(in_folder, "p: [{my_step: {}}]", backends="[my_chip]"))
    found = {problem.what.split(";")[0]: problem.what for problem in caught.value.problems}
    assert set(found) == {"unknown task 'my_task'", "unknown technique 'my_step'", "unknown backend 'my_chip'"}
    assert all("EFFLAB_PLUGINS names, which is not set" in what for what in found.values())
    assert "set EFFLAB_PLUGINS=plugins" in found["unknown task 'my_task'"]
