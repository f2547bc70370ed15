"""Shows a run: bars with time left on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from efflab.cli._streams import drop_output
from efflab.execution.watcher import Watcher
from efflab.foundation.visible import unguarded, visible
from efflab.plan.plan import Plan
from efflab.plan.stage_graph import Stage


@contextmanager
def watcher() -> Iterator[Watcher]:
    """Give a watcher that suits where standard output goes."""
    if not sys.stdout.isatty():
        yield _lasting(_plain())
        return
    with _bars() as bars:
        yield bars


def _lasting(watcher: Watcher) -> Watcher:
    """Return a watcher that goes on in silence once nobody reads what it prints: that is no reason to end a run."""

    def lasting(tell: Callable[..., None]) -> Callable[..., None]:
        def told(*what: Any) -> None:
            try:
                tell(*what)
            except BrokenPipeError:
                drop_output()

        return told

    return Watcher(**{name: lasting(tell) for name, tell in vars(watcher).items()})


def _plain() -> Watcher:
    state = {"done": 0, "total": 0, "started": time.monotonic()}

    def start(plan: Plan, cached: set[str]) -> None:
        state.update(done=0, total=len(plan.stages) - len(cached))
        for note in plan.recipe.notes:
            print(visible(f"note: {note}"))
        print(f"{len(plan.stages)} stages, {len(cached)} already finished", flush=True)

    def end(stage: Stage, status: str, reason: str, seconds: float) -> None:
        if not state["total"]:
            return  # a stage of a trial: the search says itself what becomes of those
        state["done"] += 1
        state["total"] = max(state["total"], state["done"])
        why = f": {reason}" if reason else ""
        told = f"{stage.kind} {stage.title}: {status} ({seconds:.1f} s){why}"
        print(f"[{state['done']:.0f}/{state['total']:.0f}] {visible(told)}", flush=True)

    return Watcher(start=start, end=end, say=lambda sentence: print(visible(sentence), flush=True))


@contextmanager
def _bars() -> Iterator[Watcher]:
    from rich.progress import (
        BarColumn,
        Progress,
        TaskID,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[count]}", markup=False),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=_console()) as bars:
        whole = bars.add_task("stages", total=None, count="")
        running: dict[str, TaskID] = {}
        state = {"done": 0, "total": 0}

        def count(done: int, total: int) -> None:
            state.update(done=done, total=total)
            bars.update(whole, completed=done, total=total, count=f"{done}/{total}")

        def start(plan: Plan, cached: set[str]) -> None:
            for note in plan.recipe.notes:
                bars.console.print(visible(f"note: {note}"), markup=False)
            count(len(cached), len(plan.stages))

        def begin(stage: Stage) -> None:
            running[stage.id] = bars.add_task(f"  {stage.kind} {visible(stage.title)}", total=None, count="")

        def progress(stage_id: str, done: int, total: int, note: str) -> None:
            bars.update(running[stage_id], completed=done, total=total, count=f"{done}/{total} {visible(note[:40])}")

        def end(stage: Stage, status: str, reason: str, seconds: float) -> None:
            if stage.id in running:
                bars.remove_task(running.pop(stage.id))
            if not state["total"]:
                return
            count(state["done"] + 1, max(state["total"], state["done"] + 1))
            if reason:
                bars.console.print(visible(f"{stage.title}: {status}: {reason}"), markup=False)

        yield Watcher(start, begin, progress, end, lambda sentence: bars.console.print(visible(sentence), markup=False))


def _console() -> Any:
    """Return a console that draws the bars: these steer the terminal, so the texts on them are made visible one by one."""
    from rich.console import Console

    return Console(file=unguarded(sys.stdout))


Steps = Callable[[str, int, int, str], None]  # suite, done, total, note


@contextmanager
def steps() -> Iterator[Steps]:
    """Give a function that shows how far each suite is: a bar each on a terminal, a line for every fifth elsewhere."""
    if not sys.stdout.isatty():
        told: dict[str, int] = {}

        def line(suite: str, done: int, total: int, note: str) -> None:
            fifth = 5 * done // max(1, total)
            if told.get(suite) != fifth:
                told[suite] = fifth
                print(visible(f"{suite}: {done} of {total} ({note})"), flush=True)

        yield line
        return
    from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=_console()) as bars:
        running: dict[str, TaskID] = {}

        def bar(suite: str, done: int, total: int, note: str) -> None:
            if suite not in running:
                running[suite] = bars.add_task(visible(suite), total=total, note="")
            bars.update(running[suite], completed=done, total=total, note=f"{done}/{total} {visible(note[:40])}")

        yield bar
