"""Who is told how far a piece of work is."""

from __future__ import annotations

from collections.abc import Callable

Report = Callable[[int, int, str], None]  # done, total, what is being done
