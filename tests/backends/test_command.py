"""The `command` backend says whose an error is: the program's, or efflab's own."""

import sys
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, save

from efflab.artefacts.artefact import Artefact
from efflab.backends.command import EfflabError, _of_type
from efflab.foundation import registry
from efflab.foundation.errors import Unavailable

X = np.ones((2, 4), np.float32)
# a program that loads nothing and answers 'outputs' with what its second argument says
PROGRAM = """
import json, sys
import numpy as np
answers = json.loads(sys.argv[1])
for line in sys.stdin:
    request = json.loads(line)
    if request["do"] == "outputs" and "write" in answers:
        np.save(answers["files"][0], np.array(answers["write"], dtype=object if answers["write"] == ["word"] else None))
    told = {"run": {"ns": 1}, "outputs": {k: v for k, v in answers.items() if k != "write"}}.get(request["do"], {})
    print(json.dumps(told), flush=True)
"""


@pytest.fixture
def artefact(tmp_path):
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", value[:1], value[1:])
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), tmp_path / "model.onnx")
    return Artefact(tmp_path, "onnx")


def prepare(artefact, answers, example=(X,)):
    import json

    program = artefact.folder / "program.py"
    program.write_text(PROGRAM)
    backend = registry.load("backends", "command")(command=[sys.executable, str(program), json.dumps(answers)])
    return backend.prepare(artefact, example, 1)


@pytest.mark.parametrize(
    ("answers", "error", "said"),
    [
        ({}, RuntimeError, "the program answered 'outputs' without a list of files"),
        ({"files": ["nowhere.npy"]}, RuntimeError, "the program names the output file nowhere.npy, and there is none"),
        ({"files": ["OUT"], "write": [1.0], "types": []}, RuntimeError, "the program answered with 1 files, and not a type"),
        ({"files": ["OUT"], "write": [1.0], "types": ["float99"]}, RuntimeError, "the program answered with an unknown type"),
        ({"files": ["OUT"], "write": [1.0], "types": ["object"]}, RuntimeError, "the type 'object', which is not of numbers"),
        ({"files": ["OUT"], "write": ["word"]}, NotImplementedError, "efflab cannot read strings"),
    ],
)  # fmt: skip
def test_wrong_answers_are_the_programs(answers, error, said, artefact):
    told = {**answers, "files": [str(artefact.folder / "o.npy")]} if answers.get("files") == ["OUT"] else answers
    with pytest.raises(error, match=said) as raised:
        prepare(artefact, told)
    assert not isinstance(raised.value, EfflabError)


@pytest.mark.parametrize("example", [([X, X],), (None,), (np.array(["word"]),)])
def test_what_does_not_travel_is_refused_before_the_program_starts(example, artefact):
    with pytest.raises(NotImplementedError, match="efflab cannot hand"):
        prepare(artefact, {"error": "never asked"}, example)


def test_what_efflab_could_not_do_is_said_to_be_its_own(artefact, monkeypatch):
    session = prepare(artefact, {"files": [str(artefact.folder / "o.npy")], "write": [1.0]})

    def full(*words, **options):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(np, "save", full)
        with pytest.raises(
            EfflabError, match="efflab could not write the inputs .* No space left on device; that is no fault"
        ):
            session((X,))
    with monkeypatch.context() as patched:
        patched.setattr("tempfile.mkdtemp", full)
        with pytest.raises(EfflabError, match="efflab could not make a folder for tensors"):
            prepare(artefact, {})
    (artefact.folder / "model.onnx").unlink()
    with pytest.raises(EfflabError, match="efflab could not find the model that it should have written"):
        prepare(artefact, {})


def test_a_file_that_is_no_program_is_refused(artefact):
    script = artefact.folder / "script"
    script.write_bytes(b"\x00\x01")
    script.chmod(0o755)
    with pytest.raises(Unavailable, match="cannot be started"):
        registry.load("backends", "command")(command=[str(script)]).prepare(artefact, (X,), 1)


def test_arrays_come_back_as_they_were_whatever_their_byte_order_or_rank():
    import ml_dtypes

    assert _of_type(np.array(16256, np.uint16), "bfloat16").astype(float) == 1.0
    assert _of_type(np.array([16256], np.uint16), "bfloat16").dtype == ml_dtypes.bfloat16
    with pytest.raises(RuntimeError, match="its file holds float32"):
        _of_type(np.ones(2, np.float32), "float16")


def test_inputs_of_another_byte_order_travel_in_this_machines(artefact):
    session = prepare(artefact, {"files": [str(artefact.folder / "o.npy")], "write": [1.0]})
    loaded = session.load((X.astype(">f4"),))
    assert loaded["types"] == ["float32"]
    assert np.array_equal(np.load(Path(loaded["files"][0])), X)
