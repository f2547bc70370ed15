"""Answers in eager PyTorch, but its clock is scripted: the same times on every machine, for tests and examples.

A batch is computed once, however often it is timed: the clock knows nothing of real seconds, so thousands of timed calls
must not cost them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from efflab.artefacts.artefact import Form
from efflab.contracts.backend import Arrays, Backend, Session
from efflab.contracts.module_session import ModuleSession, open_module

if TYPE_CHECKING:
    import torch

    from efflab.artefacts.artefact import Artefact

GOLDEN = 0.6180339887498949  # its multiples, modulo 1, fill the unit interval evenly without a random number


class Fake(Backend):
    """A call takes (base_ms + ns_per_byte x bytes of weights) x batch ^ exponent, give or take `jitter`."""

    takes: ClassVar[Form] = "module"
    imports: ClassVar[tuple[str, ...]] = ("torch", "efflab.contracts.module_session")
    device: ClassVar[str] = "fake"

    base_ms: Annotated[
        float, Field(gt=0, le=1e6, description="Fixed part of the time of a call with one example, in milliseconds.")
    ] = 0.1
    ns_per_byte: Annotated[
        float,
        Field(
            ge=0,
            le=1e6,
            description="Time that each byte of the weights adds to a call with one example, in nanoseconds.",
        ),
    ] = 1.0
    exponent: Annotated[
        float,
        Field(
            ge=0, le=2, description="Exponent with which the time grows with the batch size; 1 makes it proportional."
        ),
    ] = 0.9
    jitter: Annotated[
        float,
        Field(
            ge=0,
            lt=1,
            description="Width of the variation between calls, as a share of the time (half on either side).",
        ),
    ] = 0.01

    @classmethod
    def available(cls) -> str | None:
        """Nothing can be missing."""
        return None

    def prepare(self, artefact: Artefact, example: Arrays, threads: int) -> Session:
        """Load the module and set its clock to zero."""
        module, dtype = open_module(artefact, "float32", threads)
        size = sum(tensor.numel() * tensor.element_size() for tensor in module.state_dict().values())
        one_ns = self.base_ms * 1e6 + self.ns_per_byte * size
        return FakeSession(module, dtype, lambda batch: one_ns * batch**self.exponent, self.jitter)


class FakeSession(ModuleSession):
    """A session whose clock moves only while it runs."""

    def __init__(self, module: Any, dtype: torch.dtype, duration_ns: Any, jitter: float):
        super().__init__(module, dtype)
        self.duration_ns, self.jitter = duration_ns, jitter
        self.now_ns, self.calls = 0, 0
        self.answers: dict[
            int, tuple[Any, Any]
        ] = {}  # by identity of what was loaded, which is kept, so that it stays its own
        self.clock = lambda: self.now_ns

    def run(self, loaded: Any) -> Any:
        """Answer with one forward pass of each loaded batch, and move the clock by its scripted time."""
        self.calls += 1
        swing = self.jitter * (self.calls * GOLDEN % 1 - 0.5)
        self.now_ns += round(self.duration_ns(len(loaded[0])) * (1 + swing))
        if id(loaded) not in self.answers:
            self.answers[id(loaded)] = (loaded, super().run(loaded))
        return self.answers[id(loaded)][1]
