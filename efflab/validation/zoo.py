"""The models of the models suite: what the techniques make of small nets of three kinds, and classic networks of onnx."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from efflab.artefacts.artefact import Artefact, Form, save_module, write_structure
from efflab.artefacts.made import store_result
from efflab.contracts.task import Task
from efflab.contracts.technique import Context
from efflab.foundation import registry
from efflab.foundation.errors import RequestError

CARD = "digits-resnet-w8"  # trained weights, where the repository's cards are at hand
TASK = {"train": 1024, "validation": 256, "test": 2000}
ROWS = 131  # inputs of a model; a prime, so that no batch size divides it
SEED = 20200710
BUILDERS: dict[str, dict[str, Any]] = {
    "resnet": {"model": "resnet_cifar", "settings": {"width": 8, "blocks": 1, "channels": 1}},
    "depthwise": {"model": "mobile_net", "settings": {"width": 8, "blocks": 2, "channels": 1}},
    "transformer": {"model": "vision_transformer", "settings": {"width": 32, "depth": 2, "channels": 1}},
}
EXPORT: dict[str, Any] = {"export_onnx": {}}
INT8: list[dict[str, Any]] = [EXPORT, {"quantize_static": {"calibration_examples": 128}}]
# name -> (kind of net, kind of numbers, steps)
MADE: dict[str, tuple[str, str, list[dict[str, Any]]]] = {
    "resnet": ("resnet", "float32", []),
    "resnet-pruned": ("resnet", "float32", [{"prune_channels": {"ratio": 0.5, "round_to": 1}}]),
    "resnet-bf16": ("resnet", "bfloat16", [{"cast": {"dtype": "bfloat16"}}]),
    "resnet-int8": ("resnet", "int8", INT8),
    "resnet-int8-dynamic": ("resnet", "int8 dynamic", [EXPORT, {"quantize_dynamic": {}}]),
    "depthwise": ("depthwise", "float32", []),
    "depthwise-int8": ("depthwise", "int8", INT8),
    "transformer": ("transformer", "float32", []),
    "transformer-int8-dynamic": ("transformer", "int8 dynamic", [EXPORT, {"quantize_dynamic": {}}]),
}
QUICK = ("resnet", "resnet-int8")


class ZooModel(NamedTuple):
    """One model on disk, in one form or both, with inputs for it."""

    name: str
    numbers: str  # float32, bfloat16, int8 or int8 dynamic
    folders: dict[Form, str]
    inputs: str  # .npz of arr_0, ...
    fixed_batch: int | None = None
    trained: bool = False
    own: bool = False  # a file of the user's
    calls: dict[int, list[str]] | None = (
        None  # of a user's model, by batch size: an .npz for each call, all inputs whole
    )
    references: str = ""  # folder of a reference's outputs of these calls


def zoo_task() -> Task:
    """Return the task whose images the models see."""
    task: Task = registry.load("tasks", "digits_clutter")(**TASK)
    return task


def make_zoo(root: Path, names: Iterable[str] = MADE) -> list[ZooModel]:
    """Make models in `root`, of trained weights where the repository's cards are at hand, else of seeded ones."""
    task, made = zoo_task(), []
    inputs = root / "images.npz"
    root.mkdir(parents=True, exist_ok=True)
    np.savez(inputs, task.split("validation").inputs[0][:ROWS])
    for name in names:
        kind, numbers, steps = MADE[name]
        start, trained = _start(root / "nets" / kind, kind)
        folder = _apply(start, steps, root / name, task)
        folders: dict[Form, str] = {Artefact.open(folder).form: str(folder)}
        if numbers == "float32":
            folders["onnx"] = str(_apply(folder, [EXPORT], root / f"{name}.onnx", task))
        made.append(ZooModel(name, numbers, folders, str(inputs), None, trained))
    return made


def _start(folder: Path, kind: str) -> tuple[Path, bool]:
    import torch

    from efflab.cards.baseline import load_baseline
    from efflab.cards.card_paths import find_card

    trained = False
    if not (folder / "artefact.json").exists():
        torch.manual_seed(SEED)
        builder = BUILDERS[kind]
        module = registry.load("models", builder["model"])(**builder["settings"]).eval()
        save_module(module, builder, [], folder)
    if kind == "resnet":
        try:
            baseline = load_baseline(find_card(CARD, None))
            save_module(baseline.module(0), baseline.builder(), [], folder)
            trained = True
        except RequestError:
            pass  # an installation without the repository's cards
    return folder, trained


def _apply(start: Path, steps: Sequence[dict[str, Any]], target: Path, task: Task) -> Path:
    """Return the folder of what the steps make of the artefact in `start`."""
    import torch

    folder = start
    for number, step in enumerate(steps):
        ((name, settings),) = step.items()
        technique = registry.load("techniques", name)(**settings)
        made = target if number == len(steps) - 1 else target.with_name(f"{target.name}.{number}")
        made.mkdir(parents=True, exist_ok=True)
        artefact = Artefact.open(folder)
        context = Context(task, 0, made, baseline=_none, card=_none)
        torch.manual_seed(SEED)
        result = technique.apply(artefact.module() if artefact.form == "module" else artefact.onnx, context)
        store_result(name, technique.gives, result.model, result.structure, artefact, made)
        folder = made
    return folder


def _none(*words: Any) -> Any:
    raise RequestError("no teacher here")


def taken_names() -> set[str]:
    """Return the names that models and folders of the zoo have, which no other model may have."""
    names = [*MADE, *(f"{name}.onnx" for name in MADE), *(path.stem for path in _classic_files())]
    return {*names, *(name.removeprefix("light_") for name in names)}


def _classic_files() -> list[Path]:
    import onnx

    return sorted((Path(onnx.__file__).parent / "backend" / "test" / "data" / "light").glob("*.onnx"))


def make_classics(root: Path, report: Callable[[int, int, str], None]) -> list[ZooModel]:
    """Make the classic networks that come inside `onnx`, with random weights: their own are one constant each."""
    import onnx

    files, made = _classic_files(), []
    for number, path in enumerate(files):
        report(number, len(files), path.stem)
        folder = root / path.stem
        folder.mkdir(parents=True, exist_ok=True)
        model = with_random_weights(onnx.load(path))
        onnx.save(model, folder / "model.onnx")
        write_structure(folder, "onnx")
        weights = {one.name for one in model.graph.initializer}
        given = [one for one in model.graph.input if one.name not in weights]
        generator = np.random.default_rng(SEED)
        shapes = [[dim.dim_value or 1 for dim in one.type.tensor_type.shape.dim] for one in given]
        np.savez(folder / "inputs.npz", *(generator.normal(0, 1, shape).astype(np.float32) for shape in shapes))
        made.append(ZooModel(path.stem.removeprefix("light_"), "float32", {"onnx": str(folder)},
                             str(folder / "inputs.npz"), fixed_batch=shapes[0][0]))  # fmt: skip
    return made


def with_random_weights(model: Any) -> Any:
    """Return a model whose constant-filled weights are drawn anew, and that gives logits."""
    from onnx import helper, numpy_helper

    generator = np.random.default_rng(SEED)
    fills = {node.output[0]: node for node in model.graph.node if node.op_type == "ConstantOfShape"}
    shapes = {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}
    roles = {
        name: (node.op_type, index)
        for node in model.graph.node for index, name in enumerate(node.input) if name in fills
    }  # fmt: skip
    for name, node in fills.items():
        shape = tuple(int(size) for size in shapes[node.input[0]]) if node.input[0] in shapes else None
        if shape is None:
            continue
        value = _drawn(generator, shape, *roles.get(name, ("", 0)))
        model.graph.initializer.append(numpy_helper.from_array(value, name))
        model.graph.node.remove(node)
    last = model.graph.node[-1]
    if last.op_type == "Softmax" and [one.name for one in model.graph.output] == list(last.output):
        # of logits this large it gives zeros and ones, whatever the errors before it
        model.graph.output[0].name = last.input[0]
        model.graph.node.remove(last)
    return helper.make_model(model.graph, opset_imports=model.opset_import, ir_version=model.ir_version)


def _drawn(generator: np.random.Generator, shape: tuple[int, ...], operator: str, index: int) -> np.ndarray:
    if operator == "BatchNormalization":
        middle, spread = {1: (1.0, 0.1), 2: (0.0, 0.1), 3: (0.0, 0.1), 4: (1.0, 0.1)}.get(index, (0.0, 0.1))
        return np.abs(generator.normal(middle, spread, shape)).astype(np.float32)
    fan_in = int(np.prod(shape[1:])) if len(shape) > 1 else 100
    return generator.normal(0, (2 / max(1, fan_in)) ** 0.5, shape).astype(np.float32)
