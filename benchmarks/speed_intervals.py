"""Whether speed intervals hold: python benchmarks/speed_intervals.py [groups, default 400] [sessions in a group, default 12]

Simulates groups of sessions whose times scatter by 3 % from round to round, alone or hanging together (autocorrelation 0.6),
and by 0, 1, 2 or 5 % from process to process (mixed: each session by its own 0.5 to 5 %), and judges them with the code that
judges a study. For each setting it prints how
often the interval of a speed-up holds the truth (95 % is meant), how often equal models are called faster or slower, alone and
after the correction for many verdicts, and how often a model that is 10 % faster is called so.
"""

from __future__ import annotations

import sys

import numpy as np

from efflab.comparison.speeds import Speeds
from efflab.statistics import corrected, speed_tests, speed_verdict

STARTS, ROUNDS, CALLS = 5, 4, 7
WITHIN = 0.03
FASTER = 1.10


def simulated(generator: np.random.Generator, spread: float | None, hangs: float, sessions: int) -> list[dict]:
    """Return the records of a group: the baseline, then models as fast as it, and last one that is 10 % faster."""
    records = []
    shared = generator.normal(0, 0.02, STARTS)  # what the machine does to all of them in a start
    for index in range(sessions + 1):
        true = 1 / FASTER if index == sessions else 1.0
        own = np.exp(generator.uniform(np.log(0.005), np.log(0.05))) if spread is None else spread
        rounds_ms = []
        for start in range(STARTS):
            level, noise = generator.normal(0, own) + shared[start], generator.normal(0, WITHIN)
            for _ in range(ROUNDS):
                noise = hangs * noise + np.sqrt(1 - hangs**2) * generator.normal(0, WITHIN)
                rounds_ms.append(
                    [true * float(np.exp(level + noise + one)) for one in generator.normal(0, 0.01, CALLS)]
                )
        latency = {"rounds_ms": rounds_ms, "starts": [ROUNDS] * STARTS, "group": "one"}
        records.append({"latency": latency})
    return records


def judged(records: list[dict]) -> tuple[list, list[str], list[str]]:
    """Return the speed-ups over the first session, the verdicts on each alone, and those corrected for all."""
    speeds = Speeds(records, 200, 0)
    first, *others = (record["latency"] for record in records)
    found = [speeds.speedup(first, one) for one in others]
    tests = [speed_tests(one.interval, one.freedom) for one in found]
    alone = [speed_verdict(one.interval, test) for one, test in zip(found, tests, strict=True)]
    together = [speed_verdict(one.interval, test) for one, test in zip(found, corrected(tests), strict=True)]
    return [one.interval for one in found], alone, together


def main(groups: int = 400, sessions: int = 12) -> None:
    """Print a line for each spread and autocorrelation."""
    print(f"{groups} groups of {sessions + 1} sessions, {STARTS} starts of {ROUNDS} rounds")
    print(
        "spread  autocorr.  coverage  equal called different (alone, corrected)  10 % found (alone, corrected)  half-width"
    )
    for spread in (0.0, 0.01, 0.02, 0.05, None):
        for hangs in (0.0, 0.6):
            generator = np.random.default_rng(round(1000 * (spread or 0.5) + 10 * hangs))
            covered, wrong, wrong_corrected, found, found_corrected, width, n = 0, 0, 0, 0, 0, 0.0, 0
            for _ in range(groups):
                intervals, alone, together = judged(simulated(generator, spread, hangs, sessions))
                for interval in intervals[:-1]:
                    covered += interval.low <= 1 <= interval.high
                    width += np.log(interval.high / interval.low) / 2
                    n += 1
                wrong += sum(one in ("faster", "slower") for one in alone[:-1])
                wrong_corrected += sum(one in ("faster", "slower") for one in together[:-1])
                found += alone[-1] == "faster"
                found_corrected += together[-1] == "faster"
            name = "mixed" if spread is None else f"{spread:.0%}"
            print(
                f"{name:>6}  {hangs:9.1f}  {covered / n:8.1%}  {wrong / n:20.1%}, {wrong_corrected / n:.2%}"
                f"  {found / groups:28.1%}, {found_corrected / groups:.1%}  {width / n:16.3f}"
            )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
