import copy
import math
from typing import Any

import pytest
from studies import BASELINE, FAMILY, error_at, example_study, failed, record, study_of

from efflab.comparison.columns import COLUMNS
from efflab.comparison.compare import rows
from efflab.comparison.row import Row
from efflab.records.study import Study
from efflab.reporting.footer import footer

STUDY = example_study()
ROWS = rows(STUDY)


def pick(found: list[Row], variant: str, backend: str = "torch", batch_size: int = 1, **more: Any) -> Row:
    wanted = {"variant": variant, "backend": backend, "batch_size": batch_size, **more}
    (row,) = [row for row in found if all(row[name] == value for name, value in wanted.items())]
    return row


def test_every_row_has_exactly_the_columns() -> None:
    assert all(list(row.flat()) == list(COLUMNS) for row in ROWS)


@pytest.mark.parametrize(
    ("variant", "backend", "macs", "time", "speed"),
    [
        ("prune50", "torch", 1.6, 1.2, 1.5),
        ("prune50-random", "torch", 0.6, 0.45, 1.5),
        ("bf16", "torch", 1.0, 1 / 1.1, 1 / 1.1),
        ("int8", "onnxruntime", 0.98, 2.45, 2.5),
        ("prune50-int8", "onnxruntime", 1.4, 0.7 / 0.24, 1 / 0.24),
        (f"{BASELINE} (A/A)", "torch", 1.0, 1.0, 1.0),
    ],
)
@pytest.mark.parametrize("batch_size", [1, 64])
def test_planted_truth_is_recovered(
    variant: str, backend: str, macs: float, time: float, speed: float, batch_size: int
) -> None:
    row = pick(ROWS, variant, backend, batch_size)
    for name, truth in (("shift_macs", macs), ("shift_latency", time), ("speedup", speed)):
        assert row[name] == pytest.approx(truth, rel=0.01)
        assert row[f"{name}_low"] <= truth * 1.01
        assert row[f"{name}_high"] >= truth * 0.99
        assert row[f"{name}_low"] > truth * 0.8


def test_verdicts_and_ratios() -> None:
    prune, int8 = pick(ROWS, "prune50"), pick(ROWS, "int8", "onnxruntime")
    assert (prune["speed_verdict"], prune["quality_verdict"], prune["n_seeds"]) == ("faster", "worse", 3)
    assert prune["theoretical_speedup"] == 2
    assert prune["realisation"] == pytest.approx(0.75)
    assert prune["quality_difference"] == pytest.approx(-1.3)
    assert prune["margin"] == pytest.approx(0.7705)
    assert prune["break_even"] == pytest.approx(5e12 / 1.8e6)
    assert prune["break_even_time"] == pytest.approx(5e3 / 1.2e-3)
    assert (int8["theoretical_speedup"], int8["theoretical_speedup_bits"]) == (1, 16)
    assert int8["break_even_words"] == "never: an inference takes as many MACs as before"
    assert int8["quality_verdict"] == "no difference"
    assert pick(ROWS, "bf16")["speed_verdict"] == "slower"
    assert pick(ROWS, f"{BASELINE} (A/A)")["speed_verdict"] == "no difference"


def test_over_several_inputs_times_are_means_and_the_table_says_so() -> None:
    study = study_of(
        [record(BASELINE, 1e6, 0.2, role="baseline", latency_ms=1.0), record("x", 1e6, 0.2, latency_ms=1.0)]
    )
    for one, times in zip(study["records"], ([3.0, 3.0, 3.0], [1.0, 1.0, 4.0]), strict=True):
        one["latency"]["rounds_ms"], one["latency"]["starts"] = [times] * 8, [2] * 4
    median = pick(rows(study), "x")
    assert (median["latency_ms_p50"], median["speedup"]) == pytest.approx((1.0, 3.0))
    assert median["inputs"] is None
    assert not any("means over inputs" in line for line in footer(rows(study)))
    for one in study["records"]:
        one["latency"]["inputs"] = 3
    mean = pick(rows(study), "x")
    assert (mean["latency_ms_p50"], mean["speedup"], mean["inputs"]) == pytest.approx((2.0, 1.5, 3))
    assert (mean["latency_ms_p50_low"], mean["latency_ms_p50_high"]) == pytest.approx((2.0, 2.0))
    line = (
        "ms and speed-up are of means over inputs (of each one's median time), as some model's work depends on them: "
        "torch batch 1 (3 inputs)"
    )
    assert line in footer(rows(study))


def test_percentiles_only_with_the_samples_that_bound_them() -> None:
    row = pick(ROWS, "prune50")
    assert row["latency_n"] == 132
    assert row["latency_ms_p50"] < row["latency_ms_p90"] <= row["latency_ms_p95"]
    assert row["latency_ms_p99"] is None


def test_what_was_not_measured_keeps_its_reason() -> None:
    row = pick(ROWS, "int8", "openvino")
    assert (row["status"], row["speedup"], row["quality"]) == ("unavailable", None, None)
    assert "pip install" in row["reason"]
    lost = study_of([*STUDY["records"], failed("prune50", "out of memory", seed=3)])
    row = pick(rows(lost), "prune50")
    assert (row["status"], row["n_seeds"], row["reason"]) == ("ok", 3, "seed 3 failed: out of memory")


def test_seeds_scored_at_one_batch_size_count_at_all() -> None:
    thin = study_of([one for one in STUDY["records"] if one["batch_size"] == 1 or one["seed"] == 0])
    row = pick(rows(thin), "prune50", batch_size=64)
    assert row["n_seeds"] == 3
    assert row["quality_difference_low"] == pick(ROWS, "prune50", batch_size=64)["quality_difference_low"]


def test_two_machines_are_kept_apart() -> None:
    fast, slow = example_study(), example_study("m2", slower=3)
    both = rows([fast, slow])
    merged = rows(study_of(fast["records"] + slow["records"]))
    for found in (both, merged):
        one, other = (pick(found, "prune50", machine=machine) for machine in ("m1", "m2"))
        assert one["speedup"] == pytest.approx(1.5)
        assert other["speedup"] == pytest.approx(1.5)
        assert other["latency_ms_p50"] == pytest.approx(3 * one["latency_ms_p50"])
        assert other["shift_latency"] == pytest.approx(one["shift_latency"])
        assert pick(found, BASELINE, machine="m2")["pareto"]
    alone = study_of([one for one in fast["records"] if one["role"] != "baseline"] + slow["records"])
    orphan = pick(rows(alone), "prune50", machine="m1")
    assert (orphan["speedup"], orphan["quality_difference"], orphan["shift_latency"]) == (None, None, None)


def test_another_group_is_never_divided_by() -> None:
    other = copy.deepcopy(STUDY)
    for one in other["records"]:
        if one["variant"] == "prune50" and "latency" in one:
            one["latency"]["group"] = "later"
    row = pick(rows(other), "prune50")
    assert row["speedup"] is None
    assert row["quality_difference"] == pytest.approx(-1.3)


def test_macs_or_flop_give_the_same_shift() -> None:
    doubled: Study = copy.deepcopy(STUDY)
    for one in doubled["records"]:
        if "work" in one:
            one["work"]["macs"] *= 2
    for name in ("shift_macs", "shift_macs_low", "shift_macs_high", "shift_macs_stair", "theoretical_speedup"):
        assert pick(rows(doubled), "prune50")[name] == pytest.approx(pick(ROWS, "prune50")[name])


def test_an_onnx_only_backend_without_family_borrows_its_macs_law() -> None:
    kept = [one for one in STUDY["records"] if one["backend"] != "onnxruntime" or one["role"] != "dense"]
    row = pick(rows(study_of(kept)), "int8", "onnxruntime")
    assert row["shift_macs"] == pytest.approx(0.98, rel=0.01)
    assert "family on torch" in row["shift_macs_flags"]
    assert row["shift_latency"] is None
    assert "at least 3 family members" in row["shift_latency_flags"]


def test_nothing_is_believed_where_the_same_model_has_two_speeds() -> None:
    base = FAMILY[BASELINE]
    records = [
        record(BASELINE, base, 0.2, role="baseline", latency_ms=1.0),
        record("again", base, 0.2, role="repeat", latency_ms=1.05, noise_seed=1),
        record("small", base, 0.2, latency_ms=0.97, noise_seed=2),
        record("large", base, 0.2, latency_ms=0.8, noise_seed=3),
    ]
    found = rows(study_of(records))
    assert pick(found, "again")["speed_verdict"] == "control failed"
    assert pick(found, "small")["speedup_low"] > 1
    assert pick(found, "small")["speed_verdict"] == "control failed"
    assert pick(found, "large")["speed_verdict"] == "control failed"  # the same model, surely of two speeds


def test_pareto_equals_brute_force() -> None:
    for row in ROWS:
        if row["role"] == "repeat" or row["latency_ms_p50"] is None:
            assert row["pareto"] is None
            continue
        rivals = [other for other in ROWS if other["role"] != "repeat" and other["latency_ms_p50"] is not None
                  and (other["backend"], other["batch_size"]) == (row["backend"], row["batch_size"])]  # fmt: skip
        beaten = any(
            other["error"] <= row["error"] and other["latency_ms_p50"] <= row["latency_ms_p50"]
            and (other["error"], other["latency_ms_p50"]) != (row["error"], row["latency_ms_p50"])
            for other in rivals
        )  # fmt: skip
        assert row["pareto"] is not beaten


def test_errors_of_the_family_stand_on_the_law() -> None:
    for name, macs in FAMILY.items():
        assert math.isclose(pick(ROWS, name)["error"], error_at(macs), abs_tol=1 / 2000)
