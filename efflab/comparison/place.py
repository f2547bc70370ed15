"""What must be equal for two measurements to be comparable: the one definition of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import NamedTuple

from efflab.records.record import Record

ANY = 0  # stands for all batch sizes in a place that does not depend on them


class TaskIdentity(NamedTuple):
    """Name, settings and data of a task: two settings of one name are two tasks."""

    name: str
    settings: str = ""  # as JSON with sorted keys
    digest: str = ""  # of the data


class Place(NamedTuple):
    """On what a model was measured, and where: times can be compared at one place only."""

    study: int  # number among the studies that are compared; -1: any of them
    task: TaskIdentity
    backend: str
    device: str
    batch_size: int
    machine: str

    @property
    def words(self) -> str:
        """What a person calls it where study, task and machine are clear: `torch, batch 1`."""
        return f"{self.backend}, batch {self.batch_size}"

    @property
    def briefly(self) -> str:
        """The same within a list: `torch batch 1`."""
        return f"{self.backend} batch {self.batch_size}"

    def without_batch(self) -> Place:
        """Return the place at which quality can be compared: it does not depend on the batch size."""
        return self._replace(batch_size=ANY)

    def counted(self) -> Place:
        """Return the place at which counted work can be compared: no backend, device or batch size changes it."""
        return self._replace(backend="", device="", batch_size=ANY)

    def across_studies(self) -> Place:
        """Return the place without its study: one at which the times of several studies meet."""
        return self._replace(study=-1)


def task_of(record: Record, data: Mapping[str, str] | None = None) -> TaskIdentity:
    """Return the task of a record; `data`: the digests of its study."""
    settings = record.get("task_settings")
    name = record["task"]
    return TaskIdentity(name, json.dumps(settings, sort_keys=True) if settings else "", (data or {}).get(name, ""))


def place_of(record: Record, data: Mapping[str, str] | None = None, study: int = 0) -> Place:
    """Return where a record was measured; `study` is the number of its study among those that are compared."""
    task = task_of(record, data)
    return Place(study, task, record["backend"], record["device"], record["batch_size"], record["machine"])
