"""torch.export files from outside: what could run as code is refused before PyTorch reads it, and plain programs load."""

import functools
import json
import pickle
import re
import shutil
import zipfile

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from efflab.artefacts.program_archive import CONFIGS, MODEL, SAMPLES, check_program_file
from efflab.artefacts.program_expressions import plain_guard, plain_size
from efflab.artefacts.program_schema import checked_program
from efflab.artefacts.user_models import build_foreign
from efflab.foundation.errors import RequestError
from efflab.foundation.files import file_digest

X = torch.randn(2, 1, 6, 6)
GRAPH = "graph_module.graph"
WEIGHTS = next(iter(CONFIGS))


class Sizes(nn.Module):
    """Computes with sizes, so that its file holds expressions, symbols and guards."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(9, 3)

    def forward(self, x):
        pooled = nn.functional.adaptive_avg_pool2d(x, 3).flatten(1)
        return self.layer(pooled), x.reshape(x.shape[0] * 2, -1)[: x.shape[2] // 2 + 1], (pooled.sum() > 0).float()


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    torch.manual_seed(0)
    module, path = Sizes().eval(), tmp_path_factory.mktemp("good") / "good.pt2"
    free = dict.fromkeys((0, 2, 3), torch.export.Dim.DYNAMIC)
    torch.export.save(torch.export.export(module, (X,), dynamic_shapes=(free,)), str(path))
    return module, path


def content(path, name=MODEL):
    with zipfile.ZipFile(path) as archive:
        return json.loads(archive.read(next(one for one in archive.namelist() if one.endswith(name))))


def rewritten(source, target, changed=(), added=()):
    """Copy an archive with some files' content changed, and others added."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as new:
        root = old.namelist()[0].split("/")[0]
        for name in old.namelist():
            short = name.partition("/")[2]
            new.writestr(name, dict(changed).get(short, old.read(name)))
        for name, body in dict(added).items():
            new.writestr(f"{root}/{name}", body)
    return target


def put(data, place, value):
    """Set what stands at a place such as `a.b[0].c`."""
    *path, last = [int(part) if part.isdigit() else part for part in re.findall(r"[^.\[\]]+", place)]
    for part in path:
        data = data[part]
    data[last] = value


def load(path):
    return build_foreign({"torch_export": str(path), "sha256": file_digest(path)})


def test_a_plain_program_gives_what_it_gave(good):
    module, path = good
    check_program_file(path)
    inputs = torch.randn(4, 1, 10, 8)
    for ours, theirs in zip(load(path)(inputs), module(inputs), strict=True):
        assert torch.equal(ours, theirs)


def test_its_guards_stay(good):
    assert content(good[1])["guards_code"]
    with pytest.raises(Exception, match="Guard failed"):
        load(good[1])(torch.randn(2, 1, 1, 1))


RUN = "__import__('os').mkdir('ran')"
EXPRESSION = {"as_expr": {"expr_str": RUN, "hint": {"as_int": 2}}}
ENUM = json.dumps([1, {
    "type": "builtins.dict", "children_spec": [], "context": ' [{"__enum__": true, "fqn": "ran:A", "name": "B"}]',
}])  # fmt: skip
FACTORY = json.dumps([1, {
    "type": "collections.defaultdict", "children_spec": [],
    "context": {"default_factory_module": "ran", "default_factory_name": "x", "dict_context": []},
}])  # fmt: skip
CALL = {
    "target": "torch.serialization.os.mkdir",
    "inputs": [{"name": "", "arg": {"as_string": "ran"}, "kind": 1}],
    "outputs": [{"as_none": True}],
    "metadata": {},
    "is_hop_single_tensor_return": None,
    "name": "made",
}
NODE = f"{GRAPH}.nodes[0]"
HOSTILE = {
    "a size": (f"{GRAPH}.tensor_values.x.sizes[0]", EXPRESSION),
    "a stride": (f"{GRAPH}.tensor_values.x.strides[0]", EXPRESSION),
    "an offset": (f"{GRAPH}.tensor_values.x.storage_offset", EXPRESSION),
    "a symbolic number": (f"{GRAPH}.sym_int_values.mine", EXPRESSION),
    "a truth": (f"{GRAPH}.sym_bool_values.mine", {"as_expr": {"expr_str": RUN}}),
    "a list of sizes": (f"{GRAPH}.tensor_values.x.sizes[0]", {"as_expr": {"expr_str": [RUN], "hint": None}}),
    "a mapping of sizes": (f"{GRAPH}.tensor_values.x.sizes[0]", {"as_expr": {"expr_str": {"a": RUN}, "hint": None}}),
    "a tensor named metadata": (f"{GRAPH}.tensor_values.metadata", {"sizes": [EXPRESSION]}),
    "a tensor named nodes": (f"{GRAPH}.tensor_values.nodes", {"as_string": RUN}),
    "an endless power": (
        f"{GRAPH}.tensor_values.x.sizes[0]",
        {"as_expr": {"expr_str": "Pow(Pow(Integer(9), Integer(64)), Integer(64))", "hint": None}},
    ),
    "a call": (NODE, CALL),
    "a call of operator": (f"{NODE}.target", "_operator.methodcaller"),
    "a file that an operator writes": (f"{NODE}.target", "torch.ops.aten.from_file.default"),
    "an operator of TorchScript": (f"{NODE}.target", "torch.ops.aten.save.default"),
    "an operator that prints": (f"{NODE}.target", "torch.ops.higher_order.print"),
    "an operator of an operator": (f"{NODE}.inputs[0].arg", {"as_operator": "torch.serialization.os.mkdir"}),
    "an operator that is none": (f"{NODE}.target", "torch.ops.aten.no_such_thing.default"),
    "a node's name": (f"{NODE}.name", f"a = {RUN}; b"),
    "an input's name": (f"{GRAPH}.inputs[0].as_tensor.name", f"a={RUN}, b"),
    "an argument's name": (f"{NODE}.inputs[0].name", f"a={RUN}, b"),
    "a parameter's name": ("graph_module.signature.input_specs[0].parameter.parameter_name", f'a", {RUN}, "b'),
    "a constant input": (f"{GRAPH}.inputs[0]", {"as_string": f"'+{RUN}+'"}),
    "a custom object": (f"{GRAPH}.custom_obj_values.mine", {"name": "a", "class_fqn": "b"}),
    "nested inputs by enumeration": ("graph_module.module_call_graph[0].signature.in_spec", ENUM),
    "nested inputs by factory": ("graph_module.module_call_graph[0].signature.in_spec", FACTORY),
    "an argument of forward": ("graph_module.module_call_graph[0].signature.forward_arg_names", [f"x={RUN}"]),
    "a guard": ("guards_code", [f"{RUN} is None"]),
    "a guard in a key": ("guards_code", ["L['x\\'+1+\\''].size()[0] == 1"]),
    "a symbol that is counted to": ("range_constraints.u99999999999", {"min_val": 0, "max_val": None}),
    "too many levels": ("guards_code", json.loads("[" * 300 + "]" * 300)),
}  # fmt: skip


@pytest.mark.parametrize("what", HOSTILE)
def test_what_could_run_is_refused_in_words(what, good, in_folder):
    model = content(good[1])
    put(model, *HOSTILE[what])
    path = rewritten(good[1], in_folder / "bad.pt2", {MODEL: json.dumps(model)})
    with pytest.raises(RequestError) as caught:
        load(path)
    assert "Traceback" not in str(caught.value)
    assert (
        "it could run code, so the file is not loaded" in str(caught.value)
        or "nested deeper" in str(caught.value)
        or "no operator of PyTorch" in str(caught.value)
    )
    assert [one.name for one in in_folder.iterdir()] == ["bad.pt2"]


class Evil:
    def __reduce__(self):
        return eval, (RUN,)


def strings(value, path=()):
    """Yield the path of each text."""
    if isinstance(value, str):
        yield path
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from strings(inner, (*path, key))


@pytest.mark.parametrize("payload", [RUN, f"x'; {RUN} #", '"' + RUN, "x.__class__()"])
def test_no_text_of_the_model_lets_code_through(payload, good):
    refused = 0
    for path in strings(content(good[1])):
        model = content(good[1])
        functools.reduce(lambda part, key: part[key], path[:-1], model)[path[-1]] = payload
        try:
            checked_program(model, "model.json")
        except RequestError:
            refused += 1
        else:
            assert "metadata" in path, path
    assert refused > 100


@settings(max_examples=300, derandomize=True, deadline=None)
@given(st.text(alphabet="s0u7 ()+-*/%.,'\"[]_=<>&|~LMaxPowIntegerSymbol\\\n", max_size=40))
def test_an_expression_is_arithmetic_or_refused(text):
    for check in (plain_size, plain_guard):
        try:
            spelled = check(text)
        except ValueError:
            continue
        assert not re.search(r"__|\.(?!\d|size|dim|numel|stride|storage)|lambda|import", spelled)


@pytest.mark.parametrize(
    "text",
    [
        "s77", "2*s0 + 1", "Symbol('s77', positive=True, integer=True)", "FloorDiv(Add(Symbol('s0'), Integer(1)), Integer(2))",
        "Pow(Symbol('s0', integer=True), Integer(2))", "Rational(1, 2)", "Float('0.5', precision=53)", "Max(1, s0//2)",
        "StrictLessThan(Symbol('zuf0'), Float('1.5', precision=53))", "Mod(s0, 2)", "Eq(s0, 3) | ~(s1 < 2)", "true",
    ],
)  # fmt: skip
def test_sizes_as_pytorch_writes_them_are_taken(text):
    assert plain_size(text)


@pytest.mark.parametrize(
    "text",
    ["9**9**9", "2**s0", "LShift(1, 10**18)", "Symbol('x')", "Symbol('s0', real=open('x'))", "1" * 30, "(" * 500 + "1" + ")" * 500,
     "Pow(2, Pow(2, 9))", "Float('1e999999999', precision=53)", "Float('1', precision=10**9)", "eval", "E", "S(1)",
     "s0.free_symbols"],
)  # fmt: skip
def test_other_sizes_are_not(text):
    with pytest.raises(ValueError, match=r"plain arithmetic|no expression|too long"):
        plain_size(text)


def pickled():
    return pickle.dumps(Evil())


ARCHIVES = {
    "compiled code": ({}, {"data/aotinductor/model/model.so": b"x"}, "holds compiled code"),
    "other files": ({}, {"models/other.json": b"{}"}, "more than a program"),
    "an object of TorchScript": ({}, {"data/constants/custom_obj_0": b"x"}, "pickled objects"),
    "an opaque object": ({}, {"data/constants/opaque_obj_0": pickled}, "pickled objects"),
    "old weights": ({}, {"data/weights/model.pt": pickled}, "pickled objects"),
    "old constants": ({}, {"data/constants/model.pt": pickled}, "pickled objects"),
    "pickled samples": ({SAMPLES: pickled}, {}, "pickled objects"),
    "the model twice": ({}, {MODEL: b"{}"}, "of the same name twice"),
    "a bomb": ({}, {"data/weights/weight_9": b"\0" * 60_000_000}, "unpacks to more than 100 times"),
    "no JSON": ({MODEL: b"{"}, {}, "no torch.export file"),
    "a list": ({MODEL: b"[]"}, {}, "no torch.export file"),
    "a long number": ({MODEL: b'{"a": ' + b"9" * 5000 + b"}"}, {}, "no torch.export file"),
    "deep JSON": ({MODEL: b"[" * 100_000}, {}, "no torch.export file"),
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("what", ARCHIVES)
def test_an_archive_with_more_than_a_program_is_refused(what, good, in_folder):
    changed, added, said = ARCHIVES[what]
    bodies = [{name: body() if callable(body) else body for name, body in side.items()} for side in (changed, added)]
    path = rewritten(good[1], in_folder / "bad.pt2", *bodies)
    with pytest.raises(RequestError, match=said):
        load(path)
    assert [one.name for one in in_folder.iterdir()] == ["bad.pt2"]


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("use_pickle", True, "pickled objects"),
        ("path_name", "../weight_0", "is no plain name"),
        ("path_name", "weight_7", "weight_7 is missing"),
        ("tensor_meta", None, "pickled objects"),
        ("tensor_meta.sizes", [{"as_int": 10**9}, {"as_int": 10**9}], "numbers, and its file"),
    ],
)
def test_a_list_of_weights_tells_of_plain_numbers_only(key, value, said, good, in_folder):
    config = content(good[1], WEIGHTS)
    entry = next(iter(config["config"].values()))
    put(entry, key, value)
    path = rewritten(good[1], in_folder / "bad.pt2", {WEIGHTS: json.dumps(config)})
    with pytest.raises(RequestError, match=said):
        load(path)


def test_cut_off_files_are_refused_in_words(good, in_folder):
    whole, path = good[1].read_bytes(), in_folder / "cut.pt2"
    for length in range(0, len(whole), len(whole) // 12):
        path.write_bytes(whole[:length])
        with pytest.raises(RequestError, match="no torch.export file"):
            load(path)


def test_a_card_with_such_a_file_is_refused_before_any_work(good, in_folder):
    from efflab.cards.baseline import load_baseline
    from efflab.cards.card_files import file_problems

    model = content(good[1])
    put(model, *HOSTILE["a size"])
    rewritten(good[1], in_folder / "bad.pt2", {MODEL: json.dumps(model)})
    shutil.copyfile(good[1], in_folder / "good.pt2")
    card = in_folder / "mine.yaml"
    for name, count in (("good", 0), ("bad", 1)):
        card.write_text(f"name: mine\ntask: {{digits_clutter: {{}}}}\ntorch_export: {name}.pt2\n")
        assert len(file_problems([load_baseline(card)], [0])) == count
