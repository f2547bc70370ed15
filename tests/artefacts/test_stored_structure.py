"""What `artefact.json` of a store may hold: a model, or a refusal in words."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from efflab.artefacts.artefact import STRUCTURE, Artefact, write_structure
from efflab.foundation.errors import RequestError

PLAIN = {
    "schema": 1,
    "form": "module",
    "builder": {"model": "resnet_cifar", "settings": {}},
    "edits": [],
    "interface": {"inputs": [["x", "float32", [None, 1]]], "outputs": [], "scored": None, "batch": None},
}
VALUES = st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=3), st.just([]), st.just({}), st.just([1]))


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "5", "null", '{"schema": 1}', "[" * 100_000, "\ud800", '{"a": ' + "9" * 5000 + "}"]
)
def test_what_is_no_structure_is_said_so(text, tmp_path):
    (tmp_path / STRUCTURE).write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(RequestError, match="says no model .*which makes it again"):
        Artefact.open(tmp_path)


def test_a_folder_without_one_is_said_so(tmp_path):
    with pytest.raises(RequestError, match="says no model"):
        Artefact.open(tmp_path / "nothing")


@settings(
    max_examples=300, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(key=st.sampled_from(list(PLAIN)), inner=st.sampled_from(["", "inputs", "outputs", "scored"]), value=VALUES)
def test_a_changed_structure_opens_or_is_refused(key, inner, value, tmp_path):
    content = json.loads(json.dumps(PLAIN))
    if inner and key == "interface":
        content[key][inner] = value
    else:
        content[key] = value
    (tmp_path / STRUCTURE).write_text(json.dumps(content))
    try:
        found = Artefact.open(tmp_path)
        assert found.form in ("module", "onnx")
        assert str(found.interface)
    except RequestError as error:
        assert str(tmp_path) in str(error)


def test_what_is_written_is_read(tmp_path):
    write_structure(tmp_path, "onnx")
    assert Artefact.open(tmp_path).form == "onnx"
