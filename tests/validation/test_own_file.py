"""What is read of a user's model: its weights beside it, what keeps it from being tried, and what its inputs may hold."""

import os
import re
from pathlib import Path

import numpy as np
import onnx
import own_models as own
import pytest
from own_models import FLOAT, INT32, INT64, model, node, save, weights

from efflab.foundation.errors import RequestError
from efflab.validation.backends.own.file import read_all, read_own
from efflab.validation.backends.own.input_ranges import facts_of, limit_of, without_weights


def limits(one, folder, **shapes):
    light = without_weights(one, folder)
    facts = facts_of(light, shapes)
    found = {name: limit_of(name, facts, 12) for name in shapes}
    return {name: limit and (limit.low, limit.high) for name, limit in found.items()}


def test_ranges_come_from_the_graph(tmp_path):
    table = {"t": weights(9, 4)}
    rows = [("y", FLOAT, None)]
    assert limits(model([node("Gather", ["t", "i"], ["y"])], table, [("i", INT64, [2])], rows), tmp_path, i=(2,)) == {
        "i": (0, 8)
    }
    nodes = [node("Add", ["i", "two"], ["j"]), node("Gather", ["t", "j"], ["y"])]
    shifted = model(nodes, {**table, "two": np.array(2)}, [("i", INT64, [2])], rows)
    assert limits(shifted, tmp_path, i=(2,)) == {"i": (0, 6)}
    elements = model([node("GatherElements", ["t", "i"], ["y"], axis=1)], table, [("i", INT32, [9, 2])], rows)
    assert limits(elements, tmp_path, i=(9, 2)) == {"i": (0, 3)}
    code = model(
        [node("OneHot", ["i", "d", "v"], ["y"])], {"d": np.array(6), "v": np.float32([0, 1])}, [("i", INT64, [2])], rows
    )
    assert limits(code, tmp_path, i=(2,)) == {"i": (0, 5)}
    turned = [node("Less", ["i", "zero"], ["n"]), node("Add", ["i", "nine"], ["j"]), node("Where", ["n", "j", "i"], ["k"]),
              node("Gather", ["t", "k"], ["y"])]  # fmt: skip
    ends = model(turned, {**table, "zero": np.array(0), "nine": np.array(9)}, [("i", INT64, [2])], rows)
    assert limits(ends, tmp_path, i=(2,)) == {"i": (0, 8)}
    padded = [node("Equal", ["i", "pad"], ["p"]), node("Gather", ["t", "i"], ["e"]), node("Unsqueeze", ["p", "last"], ["q"]),
              node("Where", ["q", "zero", "e"], ["y"])]  # fmt: skip
    one = model(
        padded, {**table, "pad": np.array(3), "last": np.array([-1]), "zero": np.float32(0)}, [("i", INT64, [2])], rows
    )
    limit = limit_of("i", facts_of(without_weights(one, tmp_path), {"i": (2,)}), 12)
    assert (limit.low, limit.high, limit.special) == (0, 8, (3,))
    inner = model(
        [node("Gather", ["x", "i"], ["y"], axis=1)], {}, [("x", FLOAT, ["n", "t", 3]), ("i", INT64, [1])], rows
    )
    assert limits(inner, tmp_path, i=(1,), x=(2, 5, 3)) == {"i": (0, 4), "x": None}
    masked = [node("Cast", ["i"], ["b"], to=9), node("Where", ["b", "one", "zero"], ["y"])]
    flags = model(masked, {"one": np.float32(1), "zero": np.float32(0)}, [("i", INT64, [2])], rows)
    assert limits(flags, tmp_path, i=(2,)) == {"i": (0, 1)}
    free = model([node("Cast", ["i"], ["y"], to=FLOAT)], {}, [("i", INT64, [2])], rows)
    assert limits(free, tmp_path, i=(2,)) == {"i": None}


def test_tables_in_a_file_beside_the_model_are_measured_too(tmp_path):
    path = save(own.tokens(3000), tmp_path / "m.onnx", "m.data", threshold=0)
    one = onnx.load(path, load_external_data=False)
    assert limits(one, tmp_path, ids=(2, 4), positions=(2, 4), mask=(2, 4)) == {
        "ids": (0, 2999), "positions": (0, 19), "mask": (0, 1),
    }  # fmt: skip


def refusal(path):
    with pytest.raises(RequestError) as error:
        read_own(path)
    return str(error.value)


def test_weights_that_are_missing_are_named(tmp_path):
    path = save(own.convolution(), tmp_path / "m.onnx", "m.onnx.data", threshold=0)
    data = tmp_path / "m.onnx.data"
    whole = data.read_bytes()
    data.write_bytes(whole[:-1])
    assert re.search(r"m\.onnx\.data is too short: it has [\d,]+ bytes, and 'v' ends at byte [\d,]+", refusal(path))
    data.unlink()
    assert f"its weights lie in 'm.onnx.data', which is missing: there is no file {data}" in refusal(path)
    one = onnx.load(path, load_external_data=False)
    for tensor in one.graph.initializer:
        next(entry for entry in tensor.external_data if entry.key == "location").value = "../m.onnx.data"
    onnx.save(one, tmp_path / "out.onnx")
    assert "outside its folder" in refusal(tmp_path / "out.onnx")


def test_links_lead_to_the_weights_beside_the_file_itself(tmp_path):
    (tmp_path / "blobs").mkdir()
    path = save(own.convolution(), tmp_path / "blobs" / "m.onnx", "m.data", threshold=0)
    link = tmp_path / "m.onnx"
    link.symlink_to(path)
    assert list(read_own(link).data.values()) == [path.parent / "m.data"]


def test_models_that_cannot_be_tried_are_refused_in_words(tmp_path):
    strings = model([node("Identity", ["x"], ["y"])], {}, [("x", onnx.TensorProto.STRING, ["n"])],
                    [("y", onnx.TensorProto.STRING, ["n"])])  # fmt: skip
    said = refusal(save(strings, tmp_path / "s.onnx"))
    assert "its input 'x' is of type string" in said
    assert "its output 'y' holds strings" in said
    shapeless = model([node("Relu", ["x"], ["y"])], {}, [("x", FLOAT, None)], [("y", FLOAT, None)])
    assert "its input 'x' has no declared shape" in refusal(save(shapeless, tmp_path / "n.onnx"))
    drawn = model([node("RandomNormalLike", ["x"], ["y"])], {}, [("x", FLOAT, ["n"])], [("y", FLOAT, ["n"])])
    assert "draws random numbers (RandomNormalLike)" in refusal(save(drawn, tmp_path / "r.onnx"))


def test_every_model_has_a_name_of_its_own(tmp_path):
    for name in ("a/m.onnx", "b/m.onnx", "a/resnet.onnx"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        save(own.columns(), tmp_path / name)
    files = read_all([tmp_path / name for name in ("a/m.onnx", "b/m.onnx", "a/resnet.onnx")], {"resnet"})
    assert [one.name for one in files] == ["m", "b-m", "a-resnet"]
    with pytest.raises(RequestError, match="this model is given twice"):
        read_all([tmp_path / "a/m.onnx", Path(os.path.relpath(tmp_path / "a/m.onnx"))], ())
