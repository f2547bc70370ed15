"""`efflab validate technique` and `efflab new technique`: a skeleton goes from red to green."""

import json
import re

import pytest
from worlds import efflab

from efflab.cli.main import main
from efflab.foundation import registry


@pytest.fixture
def plugins(in_folder, monkeypatch):
    """A folder of plug-ins that the running process looks into, too."""
    (in_folder / "plugins" / "techniques").mkdir(parents=True)
    monkeypatch.setenv("EFFLAB_PLUGINS", str(in_folder / "plugins"))
    registry.sources.cache_clear()
    return in_folder / "plugins"


def test_a_skeleton_is_red_says_what_to_fill_in_and_turns_green_as_its_comments_say(in_folder):
    done = efflab("new", "technique", "my_pruning", cwd=in_folder)
    assert done.returncode == 0, done.stderr
    assert "efflab validate technique my_pruning" in done.stdout
    check = ("validate", "technique", "my_pruning", "--format", "json")
    here = {"cwd": in_folder, "EFFLAB_PLUGINS": str(in_folder / "plugins")}
    done = efflab(*check, **here)
    assert done.returncode == 1, done.stderr
    red = {row["check"]: row for row in json.loads(done.stdout)}
    assert red["says_what_it_is"]["verdict"] == "pass"
    assert red["repeats_itself"]["verdict"] == "skipped"
    assert "fill in plugins/techniques/my_pruning.py" in red["works_on_resnet"]["detail"]
    source = in_folder / "plugins" / "techniques" / "my_pruning.py"
    text = source.read_text()
    (claims,) = re.findall(r"the example saves (\(.*\))\n", text)
    text = text.replace("= ()  # 3.", f"= {claims}  # 3.")
    (example,) = re.findall(r"delete the one below them\n((?: +# .*\n)+) +raise NotImplementedError\(.*\n", text)
    text = re.sub(r" +raise NotImplementedError\(.*\n", "", text).replace(example, example.replace("# ", ""))
    source.write_text(text)
    done = efflab(*check, **here)
    assert done.returncode == 0, done.stdout
    green = json.loads(done.stdout)
    assert {row["verdict"] for row in green} == {"pass"}
    assert all(row["promise"].endswith(".") for row in green)


def test_the_table_names_broken_promises(plugins, capsys):
    assert main(["new", "technique", "lazy"]) == 0
    file = plugins / "techniques" / "lazy.py"
    file.write_text(re.sub(r" +raise NotImplementedError\(.*\n", "                changed += 1\n", file.read_text()))
    registry.sources.cache_clear()
    capsys.readouterr()
    assert main(["validate", "technique", "lazy"]) == 1
    shown = capsys.readouterr().out
    assert "17 promises of lazy: 16 pass, 1 broken" in shown
    assert "broken: changes_the_model: It changes every model that it does not refuse" in shown


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["validate", "technique"], "name one technique; known: "),
        (["validate", "technique", "cast", "distill"], "name one technique"),
        (["validate", "technique", "prune_chanels"], "did you mean 'prune_channels'?"),
        (["validate", "technique", "cast", "--quick"], "--quick is for backends"),
        (["validate", "technique", "cast", "--set", "dtype=float16"], "--set is for backends"),
        (["validate", "technique", "cast", "--format", "gitub"], "did you mean 'github'?"),
        (["validate", "torch", "openvino"], "one backend at a time"),
        (["validate", "torch", "--format", "json"], "--format is for techniques"),
        (["validate", "torhc"], "did you mean 'torch'?"),
        (["new", "technique", "cast"], "there is a technique 'cast' already"),
        (["new", "technique", "My-Own"], "a technique's name is of lower-case letters"),
        (["new", "technique", "lambda"], "a word of Python's own"),
        (["new", "backend", "technique"], "no backend can be named 'technique'"),
    ],
)
def test_wrong_requests_say_what_is_wrong(words, said, in_folder, capsys):
    assert main(words) == 2
    assert said in capsys.readouterr().err


def test_help_tells_both_forms(capsys):
    with pytest.raises(SystemExit):
        main(["validate", "--help"])
    shown = capsys.readouterr().out
    assert "efflab validate BACKEND [options]\n       efflab validate technique NAME [--format FORMAT]" in shown


def test_a_task_begins_as_a_skeleton_that_says_what_to_fill_in(in_folder):
    done = efflab("new", "task", "my_data", cwd=in_folder)
    assert done.returncode == 0
    assert "plugins/tasks/my_data.py" in done.stdout
    file = in_folder / "plugins" / "tasks" / "my_data.py"
    (in_folder / "baselines").mkdir()
    card = in_folder / "baselines" / "net.yaml"
    card.write_text("name: net\ntask: {my_data: {}}\nmodel: {mobile_net: {}}\n")
    (in_folder / "r.yaml").write_text("name: r\nbaseline: net\n")
    told = efflab("plan", "r.yaml", cwd=in_folder, EFFLAB_PLUGINS="plugins")
    assert told.returncode == 2
    assert "Traceback" not in told.stderr
    text = file.read_text()
    text = text.replace('raise RequestError("my_data has no data yet: fill in plugins/tasks/my_data.py")', 'return "x"')
    made = "import numpy as np\n\n        pixels, labels = np.zeros((self.size, 3, 32, 32), np.float32), np.arange(self.size) % 3"
    made += '\n        return {name: Split({"image": pixels}, labels) for name in ("train", "validation", "test")}'
    file.write_text(text.replace("raise NotImplementedError", made))
    shown = efflab("show", "net", cwd=in_folder, EFFLAB_PLUGINS="plugins")
    assert shown.returncode == 0, shown.stderr
