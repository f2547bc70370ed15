"""The contract of a backend: which artefacts it takes, whether it is here, and how to prepare a session."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from efflab.artefacts.artefact import Form
from efflab.foundation.config import Settings
from efflab.foundation.wording import one_line

LONGEST_CALL_NS = 10**15  # what a clock may say of one call, eleven days; more is no time

if TYPE_CHECKING:
    import numpy as np

    from efflab.artefacts.artefact import Artefact

Arrays = tuple["np.ndarray", ...]


class Session(ABC):
    """A prepared artefact. Only `run` followed by `wait` is timed; `load` and `fetch` move data to and from the device."""

    clock: Callable[[], int] = staticmethod(time.perf_counter_ns)  # nanoseconds; scripted by the fake backend

    def load(self, inputs: Arrays) -> Any:
        """Return `inputs` in the runtime's own form, on its device; `inputs` stay untouched.

        They are in the order of the model's inputs; `inputs.names` are the task's names of them, if it has any.
        """
        return inputs

    @abstractmethod
    def run(self, loaded: Any) -> Any:
        """Start (or do) one forward pass and return its outputs in the runtime's own form."""

    def wait(self) -> None:
        """Return when all started work is done; synchronous runtimes need not override it."""
        return

    def fetch(self, outputs: Any) -> Any:
        """Return outputs as a numpy array, or any pytree of arrays."""
        return outputs

    def fallbacks(self) -> dict[str, str]:
        """Return operator -> where it runs, for operators that do not run on the backend's device; {} if all do."""
        return {}

    def __call__(self, inputs: Arrays) -> Any:
        """Run one batch of arrays from start to end."""
        outputs = self.run(self.load(inputs))
        self.wait()
        return self.fetch(outputs)


class Backend(Settings, ABC):
    """Something that runs an artefact. Fields are its settings in a recipe (provider, precision, ...)."""

    takes: ClassVar[Form]
    extra: ClassVar[str | None] = None  # the extra of efflab that installs it
    device: ClassVar[str] = "cpu"
    # modules that `prepare` imports and that take long; none that starts threads or touches a device when it is imported
    imports: ClassVar[tuple[str, ...]] = ()

    @classmethod
    @abstractmethod
    def available(cls) -> str | None:
        """Return None where the backend can run, else the reason and the exact line that installs it."""

    @abstractmethod
    def prepare(self, artefact: Artefact, example: Arrays, threads: int) -> Session:
        """Load and compile; `example` is one batch, `threads` the number of processor threads to use."""


def why_unavailable(backend: type[Backend]) -> str | None:
    """Return what a backend says of why it cannot run here, or how it fails to say so; None where it can."""
    try:
        return backend.available()
    except Exception as error:  # a plug-in's fault is told like its absence
        return f"its available() fails: {one_line(error)}"
