"""Where techniques are tried: small nets of every family, and what each technique makes of them, each made once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from pydantic import ValidationError

from efflab.artefacts.artefact import Artefact, build, save_module
from efflab.artefacts.made import store_result
from efflab.contracts.task import Task
from efflab.contracts.technique import Context, Technique
from efflab.contracts.technique_roles import converter
from efflab.foundation import registry
from efflab.foundation.errors import RequestError, Unavailable
from efflab.model_surgery.graphs.onnx_graph import open_graph
from efflab.validation.zoo import BUILDERS

if TYPE_CHECKING:
    import torch

TASK = "digits_clutter"
ROWS = 7  # a prime, so that a batch size baked in shows
Arrays = Sequence[np.ndarray]
T = TypeVar("T")


class Broken(AssertionError):  # noqa: N818 (a finding more than an error)
    """A promise is not kept; the text says how, in one sentence."""


class Untried(Exception):  # noqa: N818 (a state of the contract more than an error)
    """A check has nothing to look at because another one failed, or the technique rules it out; the text says why."""


@dataclass(frozen=True)
class Made:
    """What a technique made of a model: stored as a study stores it, and as it answered before that."""

    start: Artefact
    artefact: Artefact
    outputs: Arrays | None  # of the module in memory; None for a graph
    harm: tuple[str, ...]  # what it changed that is not its own


class Workplace:
    """Nets, graphs and what techniques made of them, in folders under `root`; nothing is made twice."""

    def __init__(self, root: Path):
        self.root = root
        self.task: Task = registry.load("tasks", TASK)(**registry.load("tasks", TASK).tiny)
        self._kept: dict[str, Any] = {}

    def inputs(self, rows: int = ROWS) -> tuple[np.ndarray, ...]:
        """Return copies of the first validation examples."""
        return tuple(array[:rows].copy() for array in self.task.split("validation").inputs)

    def technique(self, name: str) -> Technique:
        """Return the technique with its tiny setting."""
        schema = registry.load("techniques", name)
        try:
            technique: Technique = schema(**schema.tiny)
        except (AttributeError, TypeError, ValidationError) as error:
            raise Untried("there is no tiny setting to try it with") from error
        return technique

    def net(self, family: str) -> Artefact:
        """Return a net of a family of BUILDERS, with seeded weights and batch norms that have seen data."""
        return self._once(f"net/{family}", lambda folder: self._net(family, folder))

    def start(self, name: str, family: str) -> Artefact:
        """Return what the technique starts from: the net, its graph, or what a technique of its `after` makes of it."""
        schema = registry.load("techniques", name)
        others = [other for other in schema.after if other != name]
        if not others and schema.takes == "module":
            return self.net(family)
        export = converter("module", "onnx")
        other = export if not others or (export in others and schema.takes == "onnx") else others[0]
        try:
            found = self.made(other, family).artefact
            exported = found.form == "module" and schema.takes == "onnx"
            return self.exported(other, family) if exported else found
        except RequestError as error:
            raise RequestError(f"{name} needs {other} before it: {error}") from error
        except RecursionError:
            raise Untried("techniques stand in each other's `after`") from None

    def made(self, name: str, family: str, seed: int = 0, turn: int = 0) -> Made:
        """Return what the technique's tiny setting makes of a family; what it raises passes through, at every call."""
        where = f"{name}/{family}-{seed}-{turn}"
        return self._once(where, lambda folder: self.apply(name, self.start(name, family), folder, family, seed))

    def exported(self, name: str, family: str) -> Artefact:
        """Return the graph of the module that a technique made."""
        start = self.made(name, family).artefact
        return self._once(
            f"{name}/{family}-exported", lambda folder: self.apply(converter("module", "onnx"), start, folder, family)
        ).artefact

    def families(self, name: str) -> list[str]:
        """Return the families that the technique works on, at least one."""
        found, refusals = [], []
        for family in BUILDERS:
            try:
                self.made(name, family)
                found.append(family)
            except RequestError as refusal:
                refusals.append(str(refusal))
            except (Unavailable, Untried):
                raise
            except Exception:  # the check of that family tells
                continue
        if len(refusals) == len(BUILDERS):
            raise Broken(f"its tiny setting is refused for every family of nets, such as: {refusals[0]}")
        if not found:
            raise Untried("it fails on every family of nets that it does not refuse; their checks tell how")
        return found

    def home(self, name: str) -> str:
        """Return the first family that the technique works on."""
        return self.families(name)[0]

    def apply(self, name: str, start: Artefact, folder: Path, family: str, seed: int = 0) -> Made:
        """Apply the technique to a stored model as a study does, and watch what else it touches."""
        import torch

        technique = self.technique(name)
        folder.mkdir(parents=True, exist_ok=True)
        context = Context(
            self.task,
            seed,
            folder,
            baseline=lambda: self.net(family).module(),
            card=lambda _: self.net(family).module(),
        )
        before = contents(start.folder)
        kept = [(label, array, array.copy()) for label, array in self._arrays()]
        torch.manual_seed(seed)
        result = technique.apply(start.module() if start.form == "module" else start.onnx, context)
        harm = [label for label, array, copy in kept if not np.array_equal(array, copy)]
        for _, array, copy in kept if harm else ():
            array[...] = copy
        harm += [] if contents(start.folder) == before else ["the file that it was given"]
        outputs = run_module(result.model.eval(), self.inputs()) if technique.gives == "module" else None
        artefact = store_result(name, technique.gives, result.model, result.structure, start, folder)
        return Made(start, artefact, outputs, tuple(harm))

    def _arrays(self) -> list[tuple[str, np.ndarray]]:
        splits = [(name, self.task.split(name)) for name in ("train", "validation")]
        return [
            (f"the {what} of the task's {name} split", array)
            for name, split in splits
            for what, arrays in (("inputs", split.inputs), ("targets", (split.targets,)))
            for array in arrays
        ]

    def _net(self, family: str, folder: Path) -> Artefact:
        import torch

        torch.manual_seed(0)
        module = build(BUILDERS[family])
        module(*(torch.from_numpy(array[:64].copy()) for array in self.task.split("train").inputs))
        save_module(module.eval(), BUILDERS[family], [], folder)
        return Artefact(folder, "module")

    def _once(self, where: str, make: Callable[[Path], T]) -> T:
        """Make a thing in a folder of its own, or raise what making it raised; the same at every call."""
        if where not in self._kept:
            try:
                self._kept[where] = make(self.root / where)
            except RecursionError:
                raise
            except Exception as error:
                self._kept[where] = error
        if isinstance(self._kept[where], Exception):
            raise self._kept[where]
        found: T = self._kept[where]
        return found


def contents(folder: Path) -> dict[str, bytes]:
    """Return the files of a stored model."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def run_module(module: torch.nn.Module, inputs: Arrays) -> list[np.ndarray]:
    """Return a module's outputs, 16-bit ones as float32."""
    import torch

    from efflab.contracts.examples import like_parameters

    with torch.no_grad():
        outputs = module(*(like_parameters(torch.from_numpy(array.copy()), module) for array in inputs))
    leaves = torch.utils._pytree.tree_leaves(outputs)
    return [(leaf.float() if leaf.is_floating_point() else leaf).numpy() for leaf in leaves]


def run(artefact: Artefact, inputs: Arrays) -> list[np.ndarray]:
    """Return the outputs of a stored model."""
    if artefact.form == "module":
        return run_module(artefact.module(), inputs)
    session = open_graph(artefact.onnx)
    names = [value.name for value in session.get_inputs()]
    return [np.asarray(leaf) for leaf in session.run(None, dict(zip(names, inputs, strict=True)))]
