"""Who is told of what happens in a run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from efflab.plan.plan import Plan
from efflab.plan.stage_graph import Stage


@dataclass
class Watcher:
    """Told of what happens; the command line's progress display is one."""

    start: Callable[[Plan, set[str]], None] = lambda plan, cached: None
    begin: Callable[[Stage], None] = lambda stage: None
    progress: Callable[[str, int, int, str], None] = lambda stage_id, done, total, note: None
    end: Callable[[Stage, str, str, float], None] = lambda stage, status, reason, seconds: None
    say: Callable[[str], None] = lambda sentence: None
