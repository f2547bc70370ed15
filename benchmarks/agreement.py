"""How far two measurements of the same recipe agree: python benchmarks/agreement.py RECIPE [RECIPE ...]

Runs each recipe twice, each time with a store of its own, so that nothing is taken over from the first run. Prints a line for
each backend and batch size: how many pairs of speed-up intervals do not meet (5 % would be chance for intervals that hold 95 %
each, less in truth), how far two speed-ups of the same row lie apart in the middle and at the most, how many A/A intervals
exclude 1, and how many verdicts contradict each other (faster and slower). A quiet machine is wanted.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from statistics import median

from efflab.comparison.compare import rows
from efflab.comparison.row import Row
from efflab.records.store import LocalStore
from efflab.records.study import load_study


def measured(recipe: Path, store: Path) -> list[Row]:
    """Run a recipe in a fresh store, and return its rows."""
    command = [sys.executable, "-m", "efflab.cli.main", "run", str(recipe)]
    subprocess.run(command, env={**os.environ, "EFFLAB_STORE": str(store)}, check=True, stdout=subprocess.DEVNULL)
    (study,) = LocalStore(store).root.glob("studies/*/study.json")
    return rows(load_study(study), ("latency",))


def main(recipes: list[str]) -> None:
    """Print the table of all recipes together."""
    pairs: dict[str, list[tuple[Row, Row]]] = defaultdict(list)
    for recipe in recipes:
        with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
            first, second = (measured(Path(recipe), Path(folder)) for folder in (one, other))
        again = {(row.variant, row.role, row.place.words): row for row in second}
        for row in first:
            partner = again.get((row.variant, row.role, row.place.words))
            if partner and row.against.speedup.known and partner.against.speedup.known:
                pairs[row.place.words].append((row, partner))
    print("| backend, batch | pairs | disjoint | apart, median | apart, most | A/A off 1 | contradict |")
    print("|---|---|---|---|---|---|---|")
    everything = [pair for some in pairs.values() for pair in some]
    for name, some in [*sorted(pairs.items()), ("all", everything)]:
        print(f"| {name} | {len(some)} | {' | '.join(agreement(some))} |")


def agreement(pairs: list[tuple[Row, Row]]) -> list[str]:
    """Return the cells of a line."""
    speedups = [(a.against.speedup, b.against.speedup) for a, b in pairs]
    disjoint = sum(a.low > b.high or b.low > a.high for a, b in speedups)
    apart = [abs(math.log(a.value / b.value)) for a, b in speedups]
    controls = [one.against.speedup for pair in pairs for one in pair if one.role == "repeat"]
    off = sum(one.low > 1 or one.high < 1 for one in controls)
    words = [{a.against.speed_verdict, b.against.speed_verdict} for a, b in pairs]
    contradict = sum(one == {"faster", "slower"} for one in words)
    return [
        str(disjoint), f"{median(apart):.1%}", f"{max(apart):.1%}", f"{off} of {len(controls)}", str(contradict),
    ]  # fmt: skip


if __name__ == "__main__":
    main(sys.argv[1:])
