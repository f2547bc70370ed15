"""The command line: a backend from outside is installed, validated, spoilt on purpose and caught."""

import json
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from faults import write_backend
from onnx import TensorProto, helper, save
from processor import skip_if_int8_saturates
from worlds import efflab

from efflab.validation.backends.suites.operators import few, operator_cases
from efflab.validation.record import SCHEMA
from efflab.validation.reporting.earlier import changes, slower
from efflab.validation.reporting.junit import junit
from efflab.validation.reporting.page import page
from efflab.validation.reporting.summary import failed, lines, matrix, one_line

RUNNER = Path(__file__).with_name("runner.py")


def case(name, verdict, suite="operators", operator="Relu", reason=""):
    return {
        "suite": suite, "name": name, "operator": operator, "dtype": "float32", "opset": 20, "verdict": verdict,
        "reason": reason, "seconds": 0.5, "numbers": {},
    }  # fmt: skip


def validation(*cases, speed=()):
    return {
        "schema": SCHEMA, "backend": "mychip", "settings": {}, "reference": "torch", "suites": ["operators", "behaviour"],
        "quick": False, "machine": {"cpu": "x"}, "results": list(cases), "speed": list(speed), "forecasts": [], "located": [],
    }  # fmt: skip


def speed(low, value, high):
    ratio = {"low": low, "value": value, "high": high}
    return {"model": "net", "batch": 1, "latency_ms_p50": 1.0, "reference_ms_p50": 1.0, "ratio": ratio, "verdict": "faster",
            "throughput_per_s": 1.0}  # fmt: skip


BEFORE = validation(
    case("a", "pass"), case("b", "wrong"), case("c", "pass"), case("gone", "pass"), speed=[speed(1.9, 2.0, 2.1)]
)
NOW = validation(
    case("a", "crash", reason="killed by SIGSEGV \x1b"), case("b", "unsupported"), case("c", "pass"), case("new", "wrong"),
    case("repeatable", "pass", "behaviour", ""), speed=[speed(1.5, 1.6, 1.7)],
)  # fmt: skip


def test_what_got_worse_and_better():
    assert [(one.name, one.before, one.now, one.worse) for one in changes(NOW, BEFORE)] == [
        ("a", "pass", "crash", True), ("b", "wrong", "unsupported", False),
    ]  # fmt: skip
    told = "\n".join(lines(NOW, BEFORE))
    assert "1 worse, 1 better, 1 slower, of 4 in both" in told
    assert "note: 1 cases of then were not asked for now, such as gone" in told
    assert "slower: net, batch 1: 1.60x the reference's speed, was 2.00x" in told
    assert failed(NOW, BEFORE)
    assert not failed(BEFORE, BEFORE)
    assert failed(BEFORE, None)  # by itself it has a wrong case


def test_a_gate_that_judged_nothing_is_not_green():
    other = validation(case("x", "pass"))
    assert failed(validation(case("y", "pass")), other)
    assert "nothing was judged" in "\n".join(lines(validation(case("y", "pass")), other))


def test_speeds_of_other_machines_or_references_are_not_compared():
    for key, value in (("reference", "openvino"), ("machine", {"cpu": "y"})):
        elsewhere = {**BEFORE, key: value}
        assert slower(NOW, elsewhere) == []
        assert "speeds are not compared" in "\n".join(lines(NOW, elsewhere))


def test_a_backend_that_refuses_everything_fails():
    refusing = validation(case("a", "unsupported", reason="there is no program"), case("b", "skipped"))
    assert failed(refusing, None)
    assert failed(refusing, refusing)
    assert lines(refusing)[0] == "not one case of operators came through: there is no program"
    assert not failed(validation(case("a", "skipped")), None)  # nothing was tried


def test_the_badge_and_the_matrix():
    assert one_line(NOW) == "mychip: 2 of 5 pass, 1 wrong, 1 crash, 1 unsupported"
    assert matrix(NOW["results"]) == [("Relu", "float32", "20", {"pass": 1, "wrong": 1, "crash": 1, "unsupported": 1})]


def test_junit_is_read_by_others():
    root = ElementTree.fromstring(junit(NOW))
    operators, behaviour = root.findall("testsuite")
    assert (operators.get("tests"), operators.get("errors"), operators.get("failures"), operators.get("skipped")) == (
        "4",
        "1",
        "1",
        "1",
    )
    assert behaviour.get("tests") == "1"
    gates = [
        one.get("name") for one in ElementTree.fromstring(junit(NOW, BEFORE)).iterfind("testsuite/testcase[failure]")
    ]
    assert "operators: a" in gates
    assert any("1.60x" in name for name in gates)
    assert operators.find("testcase/error").get("message") == "crash: killed by SIGSEGV "


def test_the_page_loads_nothing_and_names_what_is_bad():
    told = page(NOW, BEFORE)
    assert "killed by SIGSEGV" in told
    assert "src=" not in told
    assert "https:" not in told
    assert "worse: a: pass -&gt; crash" in told


def test_the_cases_of_onnx_are_all_there():
    cases = operator_cases()
    assert len(cases) > 1900
    assert len({case.name for case in cases}) == len(cases)
    by_name = {case.name: case for case in cases}
    assert (by_name["test_relu"].operator, by_name["test_relu"].dtype) == ("Relu", "float32")
    assert by_name["test_gelu_default_1_expanded"].operator == "Gelu"  # what its operators are an expansion of
    quick = few(cases)
    assert {case.operator for case in quick} == {case.operator for case in cases}
    assert len(quick) < len(cases) / 3


def validate(folder, *words, code=0, **environment):
    done = efflab("validate", *words, cwd=folder, **environment)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


def test_a_backend_from_outside_is_validated_spoilt_and_caught(tmp_path):
    plugins = {"EFFLAB_PLUGINS": str(tmp_path / "plugins")}
    name = write_backend(tmp_path / "plugins", "sound")
    words = (name, "--suite", "operators", "--operator", "Conv", "--suite", "behaviour", "--quick", "--out", "good")
    done = validate(tmp_path, *words, **plugins)
    assert "behaviour: 12 pass" in done.stdout
    assert {path.name for path in (tmp_path / "good").iterdir()} == {"index.html", "validation.json", "junit.xml"}
    source = tmp_path / "plugins" / "backends" / "sound.py"
    source.write_text(
        source.read_text()
        + "\n    def run(self, loaded):\n        return [1.01 * one for one in self.runtime.run(None, loaded)]\n"
    )
    done = validate(tmp_path, *words[:-1], "bad", "--against", "good/validation.json", code=1, **plugins)
    assert "worse: test_basic_conv_with_padding: pass -> wrong" in done.stdout
    assert "0 better" in done.stdout


def test_a_wrong_operator_is_found_and_shown_without_efflab(tmp_path):
    name = write_backend(tmp_path / "plugins", "transposed_weights")
    words = (name, "--suite", "models", "--quick", "--localise", "--out", "out")
    done = validate(tmp_path, *words, code=1, EFFLAB_PLUGINS=str(tmp_path / "plugins"))
    assert "Conv is the first operator out of tolerance" in done.stdout
    assert "confirmed on the untouched model" in done.stdout
    (located, *_) = json.loads((tmp_path / "out" / "validation.json").read_text())["located"]
    script = Path(tmp_path / located["reproducer"] / "reproduce.py")
    shown = subprocess.run(
        [sys.executable, script.name], cwd=script.parent, capture_output=True, text=True, check=False
    )
    assert shown.returncode == 0, shown.stderr
    error = float(re.search(r"largest error ([0-9.e-]+)", shown.stdout)[1])
    assert error < 1e-4  # on a sound runtime the case is right


def test_a_skeleton_is_red_says_what_to_fill_in_and_turns_green(tmp_path):
    done = efflab("new", "backend", "mychip", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    words = ("mychip", "--suite", "operators", "--operator", "test_relu")
    done = validate(tmp_path, *words, code=1, EFFLAB_PLUGINS=str(tmp_path / "plugins"))
    assert "0 of 2 pass, 2 unsupported" in done.stdout
    assert "not one case of operators came through: NotImplementedError" in done.stdout
    record = json.loads((tmp_path / ".efflab/validation/mychip/validation.json").read_text())
    assert "fill in plugins/backends/mychip.py" in record["results"][0]["reason"]
    source = tmp_path / "plugins" / "backends" / "mychip.py"
    text = re.sub(
        r'        raise NotImplementedError\("Mychip.*',
        "        import onnxruntime\n\n        self.chip = onnxruntime.InferenceSession(path)",
        source.read_text(),
    )
    text = text.replace(
        "        raise NotImplementedError\n",
        "        return self.chip.run(None, {self.chip.get_inputs()[0].name: loaded[0]})\n",
    )
    source.write_text(
        text.replace("        return outputs\n", "        return outputs[0] if len(outputs) == 1 else tuple(outputs)\n")
    )
    done = validate(tmp_path, *words, EFFLAB_PLUGINS=str(tmp_path / "plugins"))
    assert "2 of 2 pass" in done.stdout
    again = efflab("new", "backend", "mychip", cwd=tmp_path)
    assert (again.returncode, "is there already" in again.stderr) == (2, True)
    for wrong, said in (("My-Chip", "lower-case"), ("torch", "there is a backend 'torch' already")):
        done = efflab("new", "backend", wrong, cwd=tmp_path)
        assert (done.returncode, said in done.stderr) == (2, True)


def test_a_program_behind_a_pipe(tmp_path):
    skip_if_int8_saturates()
    command = f"command=[{sys.executable}, {RUNNER}]"
    done = validate(tmp_path, "command", "--set", command, "--suite", "models", "--quick")
    assert "models: 5 pass" in done.stdout
    done = validate(tmp_path, "command", "--set", f"{command[:-1]}, dies]", "--suite", "models", "--quick", code=1)
    assert "5 crash" in done.stdout
    done = validate(
        tmp_path, "command", "--set", f"{command[:-1]}, falls_back]", "--suite", "models", "--quick", code=1
    )
    assert "fell back: resnet, batch 3: Conv on host" in done.stdout


def test_all_types_that_the_runtime_has_travel_through_the_pipe(tmp_path):
    command = f"command=[{sys.executable}, {RUNNER}]"
    for operator in ("Range", "CastLike"):  # scalars, bfloat16 and float8
        words = ("--suite", "operators", "--operator", operator)
        piped = validate(tmp_path, "command", "--set", command, *words, "--out", "piped")
        assert "wrong" not in piped.stdout
        validate(tmp_path, "onnxruntime", *words, "--out", "direct")
        found = [json.loads((tmp_path / out / "validation.json").read_text())["results"] for out in ("piped", "direct")]
        passed = [{one["name"] for one in results if one["verdict"] == "pass"} for results in found]
        assert passed[0] == passed[1]


def test_a_program_that_hangs_is_ended(tmp_path):
    mark = f"hangs-{tmp_path.name}"
    words = ("--suite", "operators", "--operator", "test_relu", "--workers", "1")
    done = validate(
        tmp_path, "command", "--set", f"command=[{sys.executable}, {RUNNER}, hangs, {mark}]", *words, code=1
    )
    assert "hang: test_relu" in done.stdout
    assert subprocess.run(["pgrep", "-f", mark], capture_output=True, check=False).stdout == b""


@pytest.mark.parametrize("spoil", [
    lambda found: found["results"][0].update(verdict="superb"),
    lambda found: found["results"][0].pop("suite"),
    lambda found: found["speed"][0].pop("ratio"),
])  # fmt: skip
def test_a_damaged_validation_is_told_before_the_work(spoil, tmp_path):
    damaged = json.loads(json.dumps(NOW))
    spoil(damaged)
    (tmp_path / "old.json").write_text(json.dumps(damaged))
    done = validate(tmp_path, "onnxruntime", "--against", "old.json", code=2)
    assert "old.json: a damaged validation" in done.stderr


def test_a_model_of_the_user_is_run_at_every_batch_size_that_it_takes(tmp_path):
    skip_if_int8_saturates()
    for name, rows in (("free", "n"), ("fixed", 2)):
        value = [helper.make_tensor_value_info(one, TensorProto.FLOAT, [rows, 4]) for one in ("x", "y")]
        model = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", value[:1], value[1:])
        save(
            helper.make_model(model, opset_imports=[helper.make_opsetid("", 20)], ir_version=10),
            tmp_path / f"{name}.onnx",
        )
    words = ("--suite", "models", "--quick", "--model", "free.onnx", "--model", "fixed.onnx", "--out", "out")
    validate(tmp_path, "onnxruntime", *words)
    names = [one["name"] for one in json.loads((tmp_path / "out" / "validation.json").read_text())["results"]]
    assert {"free, batch 3", "free, one session, batches 4, 1, 3", "fixed, batch 2"} <= {*names}


def test_rules_of_the_user_are_on_the_record(tmp_path):
    (tmp_path / "mine.yaml").write_text(
        "rules: [{operators: [Relu], rtol: 0.1, atol: 0, reason: a table of few values}]"
    )
    words = ("onnxruntime", "--suite", "operators", "--operator", "test_relu", "--out", "out")
    validate(tmp_path, *words, "--tolerances", "mine.yaml")
    assert json.loads((tmp_path / "out" / "validation.json").read_text())["tolerances"][0]["operators"] == ["Relu"]
    (tmp_path / "mine.yaml").write_text(
        "rules: [{operators: [Rellu], rtol: 0.1, atol: 0, reason: a table of few values}]"
    )
    assert "mine.yaml:1: rules[0].operators: unknown 'Rellu'; did you mean" in validate(
        tmp_path, *words, "--tolerances", "mine.yaml", code=2).stderr  # fmt: skip


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nothing"], "unknown backend 'nothing'"),
        (["onnxruntime", "--suite", "modls"], "did you mean 'models'?"),
        (["onnxruntime", "--set", "provider"], "--set takes KEY=VALUE (found 'provider')"),
        (["onnxruntime", "--set", "providr=x"], "did you mean 'provider'"),
        (["onnxruntime", "--suite", "operators", "--operator", "Nonsense"], "no conformance case has 'Nonsense'"),
        (["onnxruntime", "--against", "none.json"], "none.json: there is no such file"),
        (["onnxruntime", "--against", "list.json"], "list.json: not a validation"),
        (["onnxruntime", "--tolerances", "none.yaml"], "none.yaml"),
        (["onnxruntime", "--suite", "models", "--quick", "--model", "list.json"], "list.json: not an ONNX file"),
        (["command", "--suite", "models"], "command"),
        (["onnxruntime", "--workers", "0"], "--workers must be at least 1, not 0"),
        (["onnxruntime", "--suite", "models", "--operator", "Relu"], "--operator chooses cases of the operators suite"),
        (["onnxruntime", "--suite", "operators", "--model", "list.json"], "--model is for the suites models and speed"),
        (["onnxruntime", "--out", "list.json/x"], "cannot write to list.json/x"),
        (["onnxruntime", "--reference", "torchh"], "did you mean 'torch'?"),
    ],
)
def test_wrong_requests_are_one_clear_line(words, said, tmp_path):
    (tmp_path / "list.json").write_text("[]")
    done = validate(tmp_path, *words, code=2)
    assert said in done.stderr
