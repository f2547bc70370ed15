"""Models of the user's own: found with their weights, fed with what they can take, and never called wrong for efflab's sake."""

import json
from pathlib import Path

import numpy as np
import onnx
import own_models as own
import pytest
from faults import write_backend
from own_models import FLOAT, INT64, model, node, save, weights
from test_validate import validate

from efflab.foundation import registry
from efflab.foundation.errors import RequestError
from efflab.validation.backends.localise import localise
from efflab.validation.backends.own import reference as own_reference
from efflab.validation.backends.own.file import read_all
from efflab.validation.backends.own.suite import prepare_own
from efflab.validation.backends.pool import Opening
from efflab.validation.backends.suites.int8_saturation import forecast
from efflab.validation.backends.suites.models import run_models
from efflab.validation.backends.validate import Request
from efflab.validation.backends.validate import validate as run_validation
from efflab.validation.reporting.summary import barren, own_words

BACKENDS = [name for name in ("onnxruntime", "openvino") if registry.load("backends", name).available() is None]
both = pytest.mark.parametrize("backend", BACKENDS)
needs_two = pytest.mark.skipif(len(BACKENDS) < 2, reason="openvino is not installed")


def prepared(backend, path, folder, suites=("models",), settings=None):
    opening = Opening(backend, settings or {}, 1, [])
    ((made, row),) = prepare_own(opening, read_all([path], ()), suites, True, folder / "work")
    return opening, made, row


def verdicts(backend, path, folder, settings=None):
    opening, made, row = prepared(backend, path, folder, settings=settings)
    found = run_models(opening, [made], folder, quick=True)
    return {case.name.split(", ", 1)[1]: outcome for case, outcome in found}, row


@needs_two
@both
@pytest.mark.parametrize(
    ("make", "data", "numbers"),
    [
        (own.convolution, None, "float32"),
        (own.convolution, "sub folder/weights.bin", "float32"),
        (lambda: own.convolution(np.float16), "half.data", "float16"),
        (own.deep_half, None, "float16"),
        (own.tokens, "tokens.onnx.data", "float32"),
        (own.upsample, None, "float32"),
        (own.columns, None, "float32"),
    ],
)
def test_a_sound_model_passes_at_every_batch_size(backend, make, data, numbers, tmp_path):
    found, row = verdicts(backend, save(make(), tmp_path / "m.onnx", data), tmp_path)
    assert {name: one.verdict for name, one in found.items()} == {
        "batch 3": "pass", "one session, batches 4, 1, 3": "pass",
    }, found  # fmt: skip
    assert (row["numbers"], row["data"]) == (numbers, [data] if data else [])


@needs_two
def test_tokens_cover_their_tables_and_lengths_are_more_than_one(tmp_path):
    _, made, row = prepared("openvino", save(own.tokens(), tmp_path / "m.onnx"), tmp_path)
    told = "\n".join(own_words({"own": [row]}))
    assert "ids, int64 [batch, length]: whole numbers from 0 to 49 (rows of 'words')" in told
    assert "positions, int64 [batch, length]: whole numbers from 0 to 19 (rows of 'places')" in told
    assert "mask, int64 [batch, length]: whole numbers from 0 to 1 (a mask)" in told
    assert "free axes: length = 12" in told
    seen = [set(), set(), set()]
    for file in (name for files in made.calls.values() for name in files):
        with np.load(file) as arrays:
            assert arrays["arr_0"].shape[1] == 12
            for values, name in zip(seen, arrays.files, strict=True):
                values |= {*arrays[name].ravel().tolist()}
            assert arrays["arr_2"][:, 0].all()  # no row is masked out as a whole
    assert seen == [{*range(50)}, {*range(20)}, {0, 1}]


@needs_two
def test_what_the_graph_does_not_tell_is_a_guess_and_shrinks_until_the_reference_runs(tmp_path):
    nodes = [
        node("Mul", ["i", "four"], ["j"]),
        node("Gather", ["t", "j"], ["y"]),
    ]  # 4 times the input must lie in a table of 9
    path = save(model(nodes, {"t": weights(9, 4), "four": np.array(4)}, [("i", INT64, ["n", 6])], [("y", FLOAT, None)]),
                tmp_path / "m.onnx")  # fmt: skip
    for backend in BACKENDS:
        found, row = verdicts(backend, path, tmp_path / backend)
        assert {one.verdict for one in found.values()} == {"pass"}
        said = "whole numbers from 0 to 1 (a guess: the graph tells no limit; no further, since the reference did not run with "
        assert row["inputs"][0]["values"] == said + "more)"


@needs_two
@both
def test_a_fixed_batch_runs_as_it_is_and_lengths_shrink_to_a_table_of_positions(backend, tmp_path):
    found, row = verdicts(backend, save(own.convolution(rows=1), tmp_path / "one.onnx"), tmp_path)
    assert {name: one.verdict for name, one in found.items()} == {"batch 1": "pass"}
    assert "its first axes are fixed" in row["notes"][0]
    nodes = [
        node("Shape", ["i"], ["s"], start=1, end=2), node("Squeeze", ["s"], ["n"]), node("Range", ["zero", "n", "one"], ["r"]),
        node("Gather", ["places", "r"], ["p"]), node("Gather", ["words", "i"], ["e"]), node("Add", ["e", "p"], ["y"]),
    ]  # fmt: skip
    constants = {"zero": np.array(0), "one": np.array(1), "places": weights(8, 4), "words": weights(30, 4)}
    short = save(model(nodes, constants, [("i", INT64, ["n", "l"])], [("y", FLOAT, None)]), tmp_path / "short.onnx")
    found, row = verdicts(backend, short, tmp_path / "short")
    assert {one.verdict for one in found.values()} == {"pass"}
    assert row["notes"] == ["free axes: l = 4"]


@needs_two
def test_a_batch_size_that_the_reference_refuses_is_left_out_in_words(tmp_path):
    nodes = [node("Reshape", ["x", "shape"], ["r"]), node("MatMul", ["r", "v"], ["y"])]
    one = model(
        nodes, {"shape": np.array([1, 16]), "v": weights(16, 5)}, [("x", FLOAT, ["n", 16])], [("y", FLOAT, [1, 5])]
    )
    found, row = verdicts("onnxruntime", save(one, tmp_path / "m.onnx"), tmp_path)
    assert {name: one.verdict for name, one in found.items()} == {"batch 1": "pass"}
    assert "batch size 3, 4 is left out: onnxruntime, a reference, says: " in row["notes"][0]


@needs_two
def test_weights_of_few_bits_and_a_reference_that_is_wrong_lay_nothing_at_a_backends_door(tmp_path):
    stored = {"w": np.arange(-64, 64, dtype=np.int8).reshape(16, 8), "s": np.full(8, 0.01, np.float32)}
    nodes = [node("DequantizeLinear", ["w", "s"], ["v"], axis=1), node("MatMul", ["x", "v"], ["y"])]
    few = save(model(nodes, stored, [("x", FLOAT, ["n", 16])], [("y", FLOAT, None)]), tmp_path / "few.onnx")
    wide = model([node("Cast", ["w"], ["v"], to=FLOAT), node("MatMul", ["x", "v"], ["y"])], {}, [("x", FLOAT, ["n", 16])],
                 [("y", FLOAT, None)])  # fmt: skip
    wide.graph.initializer.append(onnx.helper.make_tensor("w", onnx.TensorProto.BFLOAT16, [16, 5], weights(80)))
    for path in (few, save(wide, tmp_path / "wide.onnx")):
        found, row = verdicts("onnxruntime", path, tmp_path / path.stem)
        assert {one.verdict for one in found.values()} == {"pass"}, (row, found)


def test_where_two_runtimes_differ_the_evaluator_of_onnx_decides(tmp_path, monkeypatch):
    answers = {"onnxruntime": [1.0, 2.0], "other": [1.0, 5.0], own_reference.EVALUATOR: [1.0, 2.0]}
    calls = {3: [str(tmp_path / "3.0.npz")]}

    def ran(referee, name, left, root):
        (root / name).mkdir(parents=True, exist_ok=True)
        np.savez(root / name / "3.0.npz", np.float32([answers[name]]))
        return own_reference.Answers(root / name, {3}, [])

    monkeypatch.setattr(own_reference, "_ran", ran)
    openings = [Opening(name, {}, 1, []) for name in ("onnxruntime", "other")]
    referee = own_reference.Referee(None, openings, "onnxruntime")
    limit = {"min_sqnr_db": 80, "min_agreement": 0.99, "why": "a test"}

    def judged(folder):
        return own_reference.answers(referee, "onnxruntime", calls, limit, tmp_path / folder, True)

    told = judged("a")
    assert told.folder.name == "onnx"
    assert told.notes == ["onnx is the reference, since it agrees with onnxruntime; other does not"]
    answers[own_reference.EVALUATOR] = [1.0, 5.0]
    assert judged("b").folder.name == "other"  # then the backend under test is wrong
    answers[own_reference.EVALUATOR] = [1.0, 9.0]
    with pytest.raises(
        RequestError, match="no other runtime here gives a reference that can be trusted: other gives other"
    ):
        judged("c")


def test_a_model_of_the_users_that_only_meets_refusals_fails_the_validation():
    def result(name, verdict):
        return {"suite": "models", "name": name, "operator": "", "dtype": "", "opset": None, "verdict": verdict,
                "reason": "no kernel", "seconds": 0.0, "numbers": {}}  # fmt: skip

    found = {"suites": ["models"], "results": [result("net, batch 3", "pass"), result("m, batch 3", "unsupported")], "speed": [],
             "own": [{"model": "m"}, {"model": "net"}]}  # fmt: skip
    assert barren(found) == {"your model m": "no kernel"}


def test_a_fault_is_located_in_a_model_with_weights_beside_it(tmp_path, monkeypatch):
    monkeypatch.setenv("EFFLAB_PLUGINS", str(tmp_path))
    name = write_backend(tmp_path, "wrong_rounding")
    opening, made, _ = prepared(name, save(own.convolution(), tmp_path / "m.onnx", "m.data", threshold=64), tmp_path)
    (case, outcome), *_ = run_models(opening, [made], tmp_path, quick=True)
    assert outcome.verdict == "wrong"
    assert "dB" in outcome.reason
    inputs = Path(case.request["calls"][outcome.numbers["call"]])
    known = [np.load(Path(case.request["references"]) / inputs.name)["arr_0"]]
    where = localise(opening, Path(case.request["folder"]) / "model.onnx", inputs, tmp_path / "cuts", 80, known)
    assert not isinstance(where, str), where
    assert where.operator == "Conv"
    assert (Path(where.reproducer) / "model.onnx").is_file()
    other = [1.1 * known[0]]
    said = localise(opening, Path(case.request["folder"]) / "model.onnx", inputs, tmp_path / "cuts", 80, other)
    assert "gives other outputs than the reference" in said


def test_the_command_line_says_what_was_made_up_and_refuses_before_the_work(tmp_path):
    save(own.tokens(), tmp_path / "tokens.onnx", "tokens.data", threshold=1024)
    words = ("--suite", "models", "--quick", "--model", "tokens.onnx", "--out", "out")
    done = validate(tmp_path, *(BACKENDS[-1], *words))
    assert "tokens: ids, int64 [batch, length]: whole numbers from 0 to 49 (rows of 'words')" in done.stdout
    record = json.loads((tmp_path / "out" / "validation.json").read_text())
    assert record["own"][0]["data"] == ["tokens.data"]
    assert "rows of &#x27;words&#x27;" in (tmp_path / "out" / "index.html").read_text()
    (tmp_path / "tokens.data").unlink()
    done = validate(tmp_path, *("onnxruntime", *words), code=2)
    assert "its weights lie in 'tokens.data', which is missing" in done.stderr


def test_a_model_that_a_suite_cannot_take_is_refused_not_skipped(tmp_path):
    path = save(own.tokens(), tmp_path / "tokens.onnx")
    for backend, suites, said in [
        ("torch", ("models",), "--model takes ONNX files, and torch takes modules, not graphs"),
        ("onnxruntime", ("speed",), "name a reference that takes graphs, as in --reference openvino"),
    ]:
        with pytest.raises(RequestError, match=said):
            run_validation(Request(Opening(backend, {}, 1, []), suites, quick=True, models=[path]))


def test_layers_that_the_emulation_does_not_know_are_refused(tmp_path):
    from test_saturation import qdq_convolution

    one = qdq_convolution(np.full((2, 4, 3, 3), 127, np.int8))
    conv = next(one for one in one.graph.node if one.op_type == "Conv")
    conv.attribute.append(onnx.helper.make_attribute("dilations", [2, 2]))
    onnx.save(one, tmp_path / "m.onnx")
    with pytest.raises(RequestError, match="layer conv has dilations, which the emulation does not know"):
        forecast(tmp_path / "m.onnx", (np.zeros((1, 4, 8, 8), np.float32),))


def test_a_model_without_finite_outputs_is_refused(tmp_path):
    nothing = model([node("Sub", ["x", "x"], ["z"]), node("Div", ["z", "z"], ["y"])], {}, [("x", FLOAT, ["n", 2])],
                    [("y", FLOAT, ["n", 2])])  # fmt: skip
    with pytest.raises(RequestError, match="empty, infinite or not numbers"):
        prepared("openvino" if "openvino" in BACKENDS else "onnxruntime", save(nothing, tmp_path / "z.onnx"), tmp_path)
