"""Reference records: published models with their error and compute, each row with its source, for the paper's five areas."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from efflab.foundation.errors import RequestError, nearest

FOLDER = Path(__file__).parent / "records"
LEFT_OUT = "left_out"


@dataclass(frozen=True)
class Reference:
    """One area's records; errors are fractions, `macs` of one example, `training_flop` of the whole training."""

    area: str
    notes: tuple[str, ...]
    rows: tuple[dict[str, str], ...]
    left_out: tuple[dict[str, str], ...]  # rows of public tables that are known to be wrong, with the reason


def areas() -> list[str]:
    """Return the names of the areas."""
    return sorted(path.stem for path in FOLDER.glob("*.csv") if path.stem != LEFT_OUT)


def record_file(area: str) -> Path:
    """Return an area's CSV file; raise RequestError with the nearest name if there is none."""
    if area not in areas():
        raise RequestError(f"no reference records named {area!r}; {nearest(area, areas())}")
    return FOLDER / f"{area}.csv"


def reference(area: str) -> Reference:
    """Load an area's records."""
    lines = record_file(area).read_text(encoding="utf-8").splitlines()
    notes = tuple(line.removeprefix("# ") for line in lines if line.startswith("#"))
    rows = tuple(csv.DictReader(line for line in lines if not line.startswith("#")))
    with (FOLDER / f"{LEFT_OUT}.csv").open(newline="", encoding="utf-8") as file:
        wrong = tuple(row for row in csv.DictReader(file) if row["area"] == area)
    return Reference(area, notes, rows, wrong)
