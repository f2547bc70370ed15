import numpy as np
import pytest
from studies import BASELINE, FAMILY, STARTS, record, study_of

from efflab.comparison.compare import rows
from efflab.comparison.speeds import ONE_START, Speeds
from efflab.statistics import corrected, speed_tests, speed_verdict

SESSIONS = 10


def group(generator: np.random.Generator, spread: float, hangs: float, last: float = 1.0) -> list[dict]:
    """Records of a group of equal sessions, the last of which takes `last` times as long; rounds scatter by 3 %."""
    records = []
    for index in range(SESSIONS):
        rounds_ms = []
        for _ in range(5):
            level, noise = generator.normal(0, spread), generator.normal(0, 0.03)
            for _ in range(4):
                noise = hangs * noise + np.sqrt(1 - hangs**2) * generator.normal(0, 0.03)
                time = np.exp(level + noise + generator.normal(0, 0.01, 5))
                rounds_ms.append((time * (last if index == SESSIONS - 1 else 1.0)).tolist())
        records.append({"latency": {"rounds_ms": rounds_ms, "starts": [4] * 5, "group": "g"}})
    return records


@pytest.mark.parametrize("spread", [0.0, 0.01, 0.02, 0.05])
@pytest.mark.parametrize("hangs", [0.0, 0.6])
def test_intervals_hold_between_processes(spread: float, hangs: float) -> None:
    generator = np.random.default_rng(round(100 * spread + 10 * hangs))
    covered, wrong, found, groups = 0, 0, 0, 250
    for _ in range(groups):
        records = group(generator, spread, hangs, last=1 / 1.1)
        speeds = Speeds(records, 100, 0)
        first, *others = (one["latency"] for one in records)
        speedups = [speeds.speedup(first, one) for one in others]
        covered += sum(one.interval.low <= 1 <= one.interval.high for one in speedups[:-1])
        tests = corrected([speed_tests(one.interval, one.freedom) for one in speedups])
        words = [speed_verdict(one.interval, test) for one, test in zip(speedups, tests, strict=True)]
        wrong += any(word in ("faster", "slower") for word in words[:-1])
        found += speedups[-1].interval.low > 1
    assert 0.93 <= covered / groups / (SESSIONS - 2) <= 0.98  # 95 % is meant; the sessions share their baseline
    assert wrong <= 0.1 * groups  # a study with any false verdict: 5 % are meant
    if spread <= 0.02:
        assert found >= 0.9 * groups


def test_one_start_tells_nothing_of_what_another_would_show() -> None:
    rounds_ms = [[1.0, 1.0, 1.0]] * 8
    records = [{"latency": {"rounds_ms": rounds_ms, "group": "g"}} for _ in range(2)]
    speedup = Speeds(records, 2000, 0).speedup(*(one["latency"] for one in records))
    assert speedup.interval.value == 1
    reach = 1.96 * ONE_START * np.sqrt(2)
    assert np.log(speedup.interval.high) == pytest.approx(reach, rel=0.1)
    assert np.log(speedup.interval.low) == pytest.approx(-reach, rel=0.1)


def test_a_session_with_two_speeds_is_named_and_not_judged() -> None:
    plain = record(BASELINE, FAMILY[BASELINE], 0.2, role="baseline", latency_ms=1.0)
    others = [record(f"v{index}", 1e6, 0.2, latency_ms=1.0, noise_seed=index) for index in range(4)]
    two = record("two", 1e6, 0.2, latency_ms=1.0, noise_seed=9)
    for start in (1, 3):
        for place in range(3 * start, 3 * start + 3):
            two["latency"]["rounds_ms"][place] = [2 * time for time in two["latency"]["rounds_ms"][place]]
    (row,) = [row for row in rows(study_of([plain, *others, two])) if row.variant == "two"]
    assert "two speeds: " in row.reason
    assert "in 2 and 2 of 4 starts" in row.reason
    assert row.against.speed_verdict == "undecided"
    assert row.against.speedup.low < 0.52
    assert row.against.speedup.high > 0.98


def test_starts_are_paired() -> None:
    slow = record("slow", 1e6, 0.2, latency_ms=2.0)
    for one, factor in zip(range(4), (1.0, 1.5, 1.0, 2.0), strict=True):  # the machine is slow in some starts
        for place in range(3 * one, 3 * one + 3):
            slow["latency"]["rounds_ms"][place] = [factor * time for time in slow["latency"]["rounds_ms"][place]]
    fast = record("fast", 1e6, 0.2, latency_ms=1.0)
    fast["latency"]["rounds_ms"] = [[time / 2 for time in times] for times in slow["latency"]["rounds_ms"]]
    found = Speeds([slow, fast], 100, 0).speedup(slow["latency"], fast["latency"])
    assert found.interval.value == pytest.approx(2)
    assert found.interval.low == pytest.approx(2, rel=1e-5)
    assert found.freedom == len(STARTS) - 1
