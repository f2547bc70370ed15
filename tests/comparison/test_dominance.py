from studies import BASELINE, FAMILY, error_at, record, study_of

from efflab.comparison.compare import rows
from efflab.comparison.dominance import inversions
from efflab.comparison.row import Row
from efflab.records.record import Record
from efflab.reporting.footer import footer
from efflab.reporting.headlines import best_of, headlines


def family(times: dict[str, float]) -> list[Record]:
    """Dense models with the errors of the law, and the times given."""
    role = {BASELINE: "baseline"}
    return [
        record(name, FAMILY[name], error_at(FAMILY[name]), role=role.get(name, "dense"), latency_ms=times[name], noise_seed=index)
        for index, name in enumerate(FAMILY)
    ]  # fmt: skip


STEADY = {name: macs * 1e-6 for name, macs in FAMILY.items()}
# the largest dense model is faster than the baseline, as where a width fits the vector unit
UNEVEN = {**STEADY, "net-w32": 3.0}
INT8 = record("int8", FAMILY[BASELINE], error_at(FAMILY[BASELINE]), latency_ms=3.3, bits=8, noise_seed=9)
SLOW = {"net-w4": 0.9, "net-w8": 0.5, "net-w12": 1.3, "net-w16": 0.7, "net-w24": 1.5, "net-w32": 0.8}


def pick(found: list[Row], name: str) -> Row:
    return next(row for row in found if row["variant"] == name)


def test_a_dense_model_that_is_better_and_faster_is_named() -> None:
    found = rows(study_of([*family(UNEVEN), INT8]))
    assert pick(found, BASELINE)["beaten_by"] == "net-w32"
    assert pick(found, "int8")["speed_verdict"] == "faster"
    assert pick(found, "int8")["beaten_by"] == "net-w32"
    assert best_of(found) is None
    told = headlines(found)
    assert told[0].startswith("Controls: no model was timed twice")
    assert told[2] == "No variant that no dense model beats is faster than its baseline with its quality kept."
    (beaten,) = [one for one in told if one.startswith("A plain dense model is better and faster, on torch, batch 1")]
    assert "net-w32 (80.10 %, 3.00 ms) beats the baseline net-w24 (77.05 %, 3.60 ms), int8" in beaten
    assert any(line.endswith("torch batch 1: net-w32 than the baseline, int8") for line in footer(found))


def test_in_a_steady_family_nothing_is_beaten() -> None:
    found = rows(study_of([*family(STEADY), INT8]))
    assert {row["beaten_by"] for row in found} == {None}
    assert inversions(found) == []
    assert (best_of(found) or {})["variant"] == "int8"


def test_a_larger_dense_model_that_is_faster_is_reported_once_a_place() -> None:
    found = rows(study_of([*family(UNEVEN), INT8]))
    ((larger, smaller),) = inversions(found)
    assert (larger["variant"], smaller["variant"]) == ("net-w32", BASELINE)
    assert "times not monotonic in MACs" in pick(found, "int8")["shift_latency_flags"]
    told = "\n".join(headlines(found))
    assert "net-w32 has 1.78x the MACs of net-w24 and takes 3.00 ms against 3.60 ms" in told
    assert "1 of 1 rows are not judged against the family (1 on torch batch 1)" in told
    assert "No shift of the frontier in measured time is certain" in told


def test_within_noise_no_order_is_claimed() -> None:
    assert inversions(rows(study_of(family({**STEADY, "net-w32": 3.57})))) == []


def test_a_shift_that_says_nothing_is_not_measurable() -> None:
    found = rows(study_of([*family(SLOW), INT8]))
    row = pick(found, "int8")
    assert (row["shift_latency"], row["shift_latency_low"]) == (None, None)
    assert row["shift_latency_flags"].startswith("not measurable: ")
    assert row["shift_macs"] is not None
    assert any(line.startswith("not measurable: ") for line in footer(found))
