"""What a plug-in needs and this Python lacks is said before any work, in a sentence with the way to get it."""

import pytest
from worlds import QUICK, efflab, make_card, make_recipe

from efflab.foundation import registry
from efflab.foundation.errors import RequestError
from efflab.foundation.requirements import installed, lacking, missing_imports, missing_package
from efflab.recipe.recipe import load_recipe
from efflab.run import plan_file

TASK = '''
{head}
from typing import ClassVar
from efflab.tasks.digits_clutter import DigitsClutter

class Pictures(DigitsClutter):
    """Digits from files."""
    {body}

    def split(self, name):
        {split}
        return super().split(name)

    def digest(self):
        {digest}
        return super().digest()
'''
SEARCH = "search: {steps: [{prune_channels: {choose: {ratio: [0.1, 0.5]}}}], minimize: [error, macs], trials: 2}"


@pytest.fixture
def pictures(in_folder, monkeypatch):
    """Write the task `pictures`, a card and a recipe of it; returns the recipe's file."""
    folder = in_folder / "plugins" / "tasks"
    folder.mkdir(parents=True)
    monkeypatch.setenv("EFFLAB_PLUGINS", str(folder.parent))
    registry.sources.cache_clear()
    registry.load.cache_clear()
    card = make_card(in_folder)
    card.write_text(card.read_text().replace("{digits_clutter:", "{pictures:"))

    def write(head="", body="pass", split="pass", digest="pass", extra=""):
        (folder / "pictures.py").write_text(TASK.format(head=head, body=body, split=split, digest=digest))
        return make_recipe(in_folder, "c: [{cast: {}}]", measure=QUICK, extra=extra)

    return write


def problem(make):
    with pytest.raises(RequestError) as caught:
        make()
    (found,) = caught.value.problems
    return str(found)


@pytest.mark.parametrize(
    ("code", "where", "what"),
    [
        (
            {"split": "from PIL_of_nowhere.Image import open"},
            "plugins/tasks/pictures.py:11: ",
            "the task 'pictures' cannot be used: it needs the package 'PIL_of_nowhere', which is not installed; "
            "pip install PIL_of_nowhere",
        ),
        (
            {"body": "requires: ClassVar = ('numpy', 'nowhere.io', 'else_where')", "split": "import nowhere.io"},
            "baselines/tiny.yaml:2: task.pictures: ",
            "it needs the packages 'nowhere.io', 'else_where', which are not installed; pip install nowhere else_where",
        ),
        ({"body": "requires: ClassVar = 'numpy'"}, "tiny.yaml:2: task.pictures: ", "as a tuple of module names"),
        (
            {"head": "import nowhere"},
            "tiny.yaml:2: task: ",
            "pictures.py fails on import: it needs the package 'nowhere', ",
        ),
    ],
)
def test_a_package_that_a_task_lacks_is_refused_by_the_plan(pictures, code, where, what):
    found = problem(lambda: load_recipe(pictures(**code)))
    assert where in found
    assert what in found


@pytest.mark.parametrize("extra", ["", SEARCH])
@pytest.mark.parametrize(
    ("digest", "what"),
    [
        ("__import__('no_where.io')", "it needs the package 'no_where', which is not installed; pip install no_where"),
        ("open('/no/such/file')", "its digest() fails: FileNotFoundError: "),
        ("return None", "its digest() gives None, which is no text"),
    ],
)
def test_a_digest_that_fails_is_a_sentence_of_the_plan(pictures, digest, what, extra):
    found = problem(lambda: plan_file(pictures(digest=digest, extra=extra)))
    assert "baselines/tiny.yaml:2: task.pictures: the task 'pictures' cannot be used: " in found
    assert what in found


def test_the_command_line_ends_with_2_before_anything_is_run(pictures, in_folder):
    pictures(split="import nowhere_io")
    done = efflab("run", "r.yaml", cwd=in_folder)
    assert done.returncode == 2
    assert "plugins/tasks/pictures.py:11" in done.stderr
    assert "pip install nowhere_io" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list((in_folder / ".efflab").glob("stages/*"))


CERTAIN = """
import json, numpy as np
import os.path
import certain_a.b as c
from certain_b.c import d

class A:
    def one(self):
        with open("x"):
            import certain_c
        try:
            import certain_d
        except ValueError:
            import perhaps_a
        for _ in ():
            import certain_a
"""
PERHAPS = """
import sys, contextlib
from typing import TYPE_CHECKING
from . import perhaps_a
from .perhaps_b import c
if TYPE_CHECKING:
    import perhaps_c
try:
    import perhaps_d
except ImportError:
    import perhaps_e
try:
    import perhaps_f
except (ValueError, ModuleNotFoundError):
    pass
try:
    import perhaps_g
except:
    perhaps_g = None
def one(kind):
    if kind == 1:
        import perhaps_h
    elif kind == 2:
        import perhaps_i
    else:
        import perhaps_j
    with contextlib.suppress(ImportError):
        import perhaps_k
    match kind:
        case 3:
            import perhaps_l
"""


def test_only_what_is_surely_imported_is_missing(tmp_path):
    path = tmp_path / "one.py"
    path.write_text(CERTAIN)
    assert missing_imports(path) == [(4, "certain_a"), (5, "certain_b"), (10, "certain_c"), (12, "certain_d")]
    path.write_text(PERHAPS)
    assert missing_imports(path) == []
    path.write_text("def (")
    assert missing_imports(path) == []
    assert missing_imports(tmp_path / "none.py") == []


def test_distributions_go_by_their_own_names(monkeypatch):
    monkeypatch.setattr("efflab.foundation.requirements.installed", lambda module: False)
    assert lacking(["PIL.Image", "cv2"]) == (
        "it needs the packages 'PIL.Image', 'cv2', which are not installed; pip install pillow opencv-python"
    )


def test_only_a_package_that_is_not_there_is_missing():
    assert installed("json")
    assert installed("os.path")
    assert not installed("json.nothing")
    assert not installed("nothing.json")
    assert missing_package(ModuleNotFoundError("No module named 'json.x'", name="json.x")) == ""
    assert missing_package(ImportError("cannot import name 'x' from 'json'", name="json")) == ""
    assert "'nothing'" in missing_package(ModuleNotFoundError("No module named 'nothing.x'", name="nothing.x"))


TECHNIQUE = '''
from typing import ClassVar
from efflab import Result, Technique

class Shrink(Technique):
    """Needs a package."""
    takes: ClassVar = "module"
    gives: ClassVar = "module"

    def apply(self, model, context):
        import nowhere
        return Result(model)
'''


def test_a_package_that_a_technique_from_outside_may_lack_is_a_note(pictures, in_folder):
    (in_folder / "plugins" / "techniques").mkdir()
    (in_folder / "plugins" / "techniques" / "shrink.py").write_text(TECHNIQUE)
    recipe = pictures()
    recipe.write_text(recipe.read_text().replace("cast", "shrink"))
    (note,) = [note for note in load_recipe(recipe).notes if "nowhere" in note]
    assert note.startswith("technique shrink cannot run here if it needs 'nowhere', which ")
    assert note.endswith(
        "shrink.py:11 imports: it needs the package 'nowhere', which is not installed; pip install nowhere"
    )


@pytest.mark.parametrize("kind", ["techniques", "backends", "models"])
def test_every_kind_of_plug_in_names_the_package_that_its_import_lacks(kind, in_folder, monkeypatch):
    (in_folder / "plugins" / kind).mkdir(parents=True)
    (in_folder / "plugins" / kind / "mine.py").write_text("import nowhere.io")
    monkeypatch.setenv("EFFLAB_PLUGINS", "plugins")
    registry.sources.cache_clear()
    with pytest.raises(RequestError, match="fails on import: it needs the package 'nowhere', which is not installed"):
        registry.load(kind, "mine")
