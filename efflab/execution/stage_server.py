"""A process that does stages: one a request, until its driver ends."""

from __future__ import annotations

from functools import cache
from typing import Any

from efflab.contracts.executor import read_job
from efflab.foundation.child_server import serve
from efflab.foundation.progress import Report
from efflab.records.store import Store, open_store


@cache
def _store(address: str) -> Store:
    return open_store(address)


def do_stage(request: dict[str, Any], report: Report) -> dict[str, Any]:
    """Do the job of a request with the store at its address, and say what became of it."""
    from efflab.execution.worker import do_job

    return vars(do_job(read_job(request["job"]), _store(request["store"]), report))


if __name__ == "__main__":
    serve(do_stage, goes_on=True)
