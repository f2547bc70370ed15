"""Exports a Hugging Face image classifier to ONNX through optimum, offline, and checks the graph against the module."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from efflab.cards.hugging_face.checkpoint import Checkpoint, lacking
from efflab.cards.hugging_face.fit import Conversion, conversion
from efflab.cards.hugging_face.loading import load_pretrained
from efflab.contracts.classification import Classification
from efflab.foundation.errors import RequestError, Unavailable
from efflab.foundation.wording import one_line

if TYPE_CHECKING:
    import onnx
    import torch
    from torch import Tensor

    from efflab.contracts.task import Task

INPUT, OUTPUT, GOAL = "pixel_values", "logits", "image-classification"
OPSET = 18
TOLERANCE = 1e-3  # of the largest logit


def export_checkpoint(checkpoint: Checkpoint, task: Task, path: Path) -> None:
    """Write a checkpoint as the ONNX file `path`: input pixel_values of the task's shape, output logits, free batch axis.

    Raises Unavailable without the packages, RequestError for a checkpoint that cannot be loaded, exported or used for
    the task, RuntimeError if the graph's outputs are not the module's.
    """
    from efflab.contracts.examples import example_inputs
    from efflab.foundation.quiet import quiet
    from efflab.model_surgery.graphs.graph_check import check_graph

    if lacking():
        raise Unavailable(lacking())
    inputs = example_inputs(task)
    change = conversion(checkpoint, task)
    change = None if change is None or change.nothing() else change
    with quiet():
        module = load_pretrained("AutoModelForImageClassification", checkpoint)
        wrapped = _on_task(module, change)
        _check_fit(wrapped, inputs, task, checkpoint)
        _export(module, inputs[0], path, checkpoint)
    _tidy(path, change)
    check_graph(wrapped, path, inputs, TOLERANCE)


def _on_task(module: Any, change: Conversion | None) -> torch.nn.Module:
    """Return a module from the task's numbers to logits."""
    import torch

    class OnTask(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = module

        def forward(self, images: Tensor) -> Tensor:
            if change is not None:
                images = images * _by_channel(change.scale) + _by_channel(change.shift)
            logits: Tensor = self.inner(pixel_values=images).logits
            return logits

    return OnTask()


def _by_channel(values: tuple[float, ...]) -> Tensor:
    import torch

    return torch.tensor(values, dtype=torch.float32)[:, None, None]


def _check_fit(module: torch.nn.Module, inputs: tuple[Tensor, ...], task: Task, checkpoint: Checkpoint) -> None:
    """Raise RequestError if the model does not run on the task's examples, or gives another number of classes."""
    import torch

    shapes = " and ".join("x".join(map(str, one.shape[1:])) for one in inputs)
    if len(inputs) != 1 or not inputs[0].is_floating_point():
        raise RequestError(f"{checkpoint.name} takes one image, but the task gives {len(inputs)} inputs of {shapes}")
    try:
        with torch.no_grad():
            logits = module(*inputs)
    except MemoryError:
        raise
    except Exception as error:
        raise RequestError(
            f"{checkpoint.name} does not take what the task gives ({shapes}): {one_line(error)}"
        ) from error
    classes = task.class_count() if isinstance(task, Classification) else logits.shape[-1]
    if logits.ndim != 2 or logits.shape[1] != classes:
        gives = "x".join(map(str, logits.shape[1:]))
        raise RequestError(f"{checkpoint.name} gives {gives} logits for an image, the task has {classes} classes")


def _export(module: Any, example: Tensor, path: Path, checkpoint: Checkpoint) -> None:
    from optimum.exporters.onnx import export
    from optimum.exporters.tasks import TasksManager

    try:
        known = TasksManager.get_exporter_config_constructor(
            "onnx", model=module, task=GOAL, library_name="transformers"
        )

        class OfTask(known.func):  # type: ignore[misc,name-defined]
            """optimum's configuration of this kind of model, but for images of the task's size."""

            inputs = property(lambda self: {INPUT: {0: "batch"}})
            outputs = property(lambda self: {OUTPUT: {0: "batch"}})

            def generate_dummy_inputs(self, *_: Any, **__: Any) -> dict[str, Tensor]:
                return {INPUT: example}

        export(module, OfTask(module.config, task=GOAL), path, opset=OPSET)
    except MemoryError:
        raise
    except Exception as error:
        kind = checkpoint.config.get("model_type")
        raise RequestError(f"optimum cannot export {checkpoint.name} (a {kind!r} model): {one_line(error)}") from error


def _tidy(path: Path, change: Conversion | None) -> None:
    """Fold what is constant, and put the conversion of the task's numbers in front; graphs with data outside are not folded."""
    import onnx
    from onnxscript import optimizer

    model = onnx.load(str(path), load_external_data=False)
    whole = not any(one.data_location == onnx.TensorProto.EXTERNAL for one in model.graph.initializer)
    if whole:
        model = optimizer.optimize(model)
    if change is not None:
        _convert_first(model, change)
    onnx.save(model, str(path))


def _convert_first(model: onnx.ModelProto, change: Conversion) -> None:
    from onnx import helper, numpy_helper

    converted = f"{INPUT}.converted"
    for node in model.graph.node:
        node.input[:] = [converted if name == INPUT else name for name in node.input]
    scaled = f"{INPUT}.scaled"
    for name, values in (("conversion.scale", change.scale), ("conversion.shift", change.shift)):
        model.graph.initializer.append(numpy_helper.from_array(_by_channel(values).numpy(), name))
    model.graph.node.insert(0, helper.make_node("Add", [scaled, "conversion.shift"], [converted]))
    model.graph.node.insert(0, helper.make_node("Mul", [INPUT, "conversion.scale"], [scaled]))
