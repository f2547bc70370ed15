"""The skeletons that `efflab new` writes: whole plug-ins with one part left to fill in, as their comments say."""

from __future__ import annotations

BACKEND = '''"""Runs an ONNX graph on {name}."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from efflab import Backend, Session

if TYPE_CHECKING:
    from efflab import Arrays, Artefact


class {title}(Backend):
    """{name}; annotated fields below are its settings in recipes and in `efflab validate --set`."""

    takes: ClassVar[str] = "onnx"  # or "module", for a torch.nn.Module from artefact.module()
    device: ClassVar[str] = "{name}"  # "cpu" if it is the processor: then threads are checked, too

    # an example of a setting: replace it
    fast_math: Annotated[bool, Field(description="Trade exactness for speed.")] = False

    @classmethod
    def available(cls) -> str | None:
        """Return None where the backend can run, else the reason and the exact line that installs it."""
        # try: import {name}_sdk
        # except ImportError: return "{name}_sdk is not installed: pip install {name}-sdk"
        return None

    def prepare(self, artefact: Artefact, example: Arrays, threads: int) -> Session:
        """Load and compile artefact.onnx for the shapes of `example`, with so many processor threads."""
        # raise Unavailable (`from efflab import Unavailable`) for what the hardware does not have: that is a refusal, not a fault
        session = {title}Session(str(artefact.onnx), threads)
        session(example)  # what is compiled on the first call belongs here, not into the first timed call
        return session


class {title}Session(Session):
    """One compiled graph. Only `run` followed by `wait` is timed."""

    def __init__(self, path: str, threads: int):
        # 1. load the model here; until then every case says "unsupported", and the exit code is 1
        raise NotImplementedError("{title}Session does not load models yet: fill in {file}")

    def load(self, inputs: Arrays) -> Any:
        """Copy the arrays to the device; the caller's arrays must stay as they are."""
        return inputs

    def run(self, loaded: Any) -> Any:
        """2. Start one forward pass and return a handle of its outputs."""
        raise NotImplementedError

    def wait(self) -> None:
        """3. Return when the device has finished; leave this out if `run` does not return before."""

    def fetch(self, outputs: Any) -> Any:
        """4. Copy outputs to numpy arrays that the next run does not overwrite: one array, or a tuple of two or more."""
        return outputs

    def fallbacks(self) -> dict[str, str]:
        """5. Return operator -> where it runs, for operators that do not run on the device, as your runtime tells."""
        return {{}}
'''

TECHNIQUE = '''"""One sentence on what {name} does, with its paper (author year, arXiv number)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from efflab import Context, Form, RequestError, Result, Technique

if TYPE_CHECKING:
    from torch import nn


class {title}(Technique):  # one that trains: `from efflab import Trains, train_within`, as efflab/techniques/finetune.py does
    """One sentence on what it does, and one on when it helps."""

    takes: ClassVar[Form] = "module"  # or "onnx": then `model` is the path of an ONNX file
    gives: ClassVar[Form] = "module"  # or "onnx": then write context.folder / "model.onnx" and return Result of that path
    claims: ClassVar[tuple[str, ...]] = ()  # 3. what it saves; the example saves ("nonzero_params", "effective_macs")
    # random: ClassVar[bool] = True  # if it draws random numbers; seed them with context.seed
    # supports: ClassVar[bool] = True  # if it only prepares or repairs what other steps do, and so names no variant
    # after: ClassVar[tuple[str, ...]] = ("export_onnx",)  # techniques of which one must stand before it
    # before: ClassVar[tuple[str, ...]] = ("cast",)  # techniques that may not stand before it
    # rather_after: ClassVar[dict[str, str]] = {{"low_rank": "why it had better stand after that one"}}
    tiny: ClassVar[dict[str, Any]] = {{"share": 0.25}}  # settings under which the contract is checked, in seconds

    # an example of a setting, with its limits: replace it
    share: Annotated[float, Field(gt=0, lt=1, description="Weights below this share of the largest go to zero.")] = 0.1

    def apply(self, model: Any, context: Context) -> Result:
        """Change the model, which is a private copy; raise RequestError if there is nothing to change."""
        {name}(model, self.share)
        return Result(model)  # 4. if layers change shape: Result(model, plain data from which `rebuild` makes them anew)

    # @classmethod
    # def rebuild(cls, module: nn.Module, structure: dict[str, Any]) -> nn.Module:
    #     """Change the layers of a fresh module as `structure` says; its weights are loaded afterwards."""
    #     return module

    # def control(self) -> Technique | None:
    #     """Return the settings that leave its choice to chance, if it chooses something."""
    #     return None

    # def no_onnx(self) -> str:
    #     """Return why its modules have no ONNX form, if they have none."""
    #     return ""


def {name}(module: nn.Module, share: float = 0.1) -> None:
    """Change `module` in place; raise RequestError, in words that begin with {name}, if there is nothing to change."""
    import torch

    # 1. do the work here, on a bare model; the example zeroes all weights below a share of their layer's largest one
    changed = 0
    with torch.no_grad():
        for layer in module.modules():
            if isinstance(layer, (torch.nn.Conv2d, torch.nn.Linear)):
                # 2. take these three lines in, or write your own, and delete the one below them
                # small = layer.weight.abs() < share * layer.weight.abs().max()
                # changed += int((small & (layer.weight != 0)).sum())
                # layer.weight[small] = 0
                raise NotImplementedError("{name} changes nothing yet: fill in {file}")
    if not changed:
        raise RequestError("{name}: no weight is small enough")
'''

TASK = '''"""One sentence on what {name} measures, and where its data come from."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from efflab import Classification, RequestError, Split

if TYPE_CHECKING:
    import torch


class {title}(Classification):  # of other metrics: `from efflab import Metric, Task`, with `metrics`, `scores` and `quality`
    """One sentence: what the inputs are (names, shapes, types), what the targets are, and the metric."""

    version: ClassVar[int] = 1  # raise it when the meaning of the numbers changes
    prepared: ClassVar[str] = "How raw data become inputs, for users who must do the same to theirs."

    # an example of a setting: replace it
    size: Annotated[int, Field(ge=8, description="Number of examples of each split.")] = 64

    def digest(self) -> str:
        """1. Return a digest of the data's content; raise RequestError with the way to get them if they are missing."""
        raise RequestError("{name} has no data yet: fill in {file}")

    @cached_property
    def _splits(self) -> dict[str, Split]:
        """2. Read the data; where they do not fit in memory, return a class derived from Split that has `batch` read them."""
        # return {{name: Split({{"image": pixels}}, labels) for name in ("train", "validation", "test")}}
        raise NotImplementedError

    def split(self, name: str) -> Split:
        """Return one split, the same at every call; `test` is for the final score only."""
        return self._splits[name]

    def loss(self, outputs: Any, targets: torch.Tensor) -> torch.Tensor:
        """Return the training loss of a batch."""
        from torch.nn.functional import cross_entropy

        return cross_entropy(outputs.float(), targets)
'''
