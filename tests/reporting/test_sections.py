"""Each section of a report, on studies whose truth is known."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from studies import BASELINE, FAMILY, error_at, example_study, record, study_of

from efflab.comparison.columns import AXES
from efflab.comparison.compare import assess
from efflab.records.study import Study
from efflab.reporting.report import SECTIONS, write_report
from efflab.reporting.section import Asked, Section, markdown
from efflab.reporting.sections.adaptive import adaptive_time, percentile, work_by_input
from efflab.reporting.sections.axes import axes
from efflab.reporting.sections.composition import composition
from efflab.reporting.sections.field import field, gained_area
from efflab.reporting.sections.law import law
from efflab.reporting.sections.life import life
from efflab.reporting.sections.linter import CHECKS, linter
from efflab.reporting.sections.meaning import paper_targets, years
from efflab.reporting.sections.realisation import realisation

PRUNE: tuple[dict[str, Any], ...] = (
    {"prune_channels": {"ratio": 0.5, "importance": "l2"}},
    {"finetune": {"epochs": 1}},
)
INT8: tuple[dict[str, Any], ...] = ({"export_onnx": {}}, {"quantize_static": {}})


def asked_of(study: Study, inferences: float = 1e9) -> Asked:
    return Asked(study, assess(study, AXES, 400), inferences)


ASKED = asked_of(example_study())


def members_study() -> Study:
    """Three members, each pruned (a parallel shift of 1.5), quantised, and both in turn (less than the product)."""
    bases = ("net-w8", "net-w16", "net-w24")
    records = [
        record(name, macs, error_at(macs), role="baseline" if name in bases else "dense", latency_ms=macs * 1e-6,
               noise_seed=number, seed=seed, of=None, baseline=name)
        for number, (name, macs) in enumerate(FAMILY.items())
        for seed in range(3)
    ]  # fmt: skip
    for index, name in enumerate(bases):
        macs = FAMILY[name]
        for variant, work, level, time, bits, steps in (
            ("prune", 0.5, 0.75, 0.5, 32, PRUNE), ("int8", 1, 1, 0.5, 8, INT8), ("both", 0.5, 0.75, 0.3, 8, PRUNE + INT8),
        ):  # fmt: skip
            for seed in range(3):
                one = record(
                    f"{variant}@{name}", macs * work, error_at(macs * level), latency_ms=macs * time * 1e-6, bits=bits,
                    noise_seed=20 + index, of=name, baseline=name, seed=seed, recovery_macs=1e9,
                )  # fmt: skip
                one["steps"] = list(steps)
                records.append(one)
    return study_of(records, "members")


MEMBERS = asked_of(members_study())


def cell(section: Section | None, line: str, column: str) -> str:
    assert section is not None
    index = section.heads.index(column)
    return next(row[index] for row in section.table if row[0] == line)


def test_axes_part_what_moves() -> None:
    found = axes(ASKED)
    assert found is not None
    assert found.title == "Shift on every axis, onnxruntime, batch 1"
    assert cell(found, "int8", "M, MACs").startswith("0.98x")
    assert cell(found, "int8", "M, bit-operations").startswith("15.")
    assert cell(found, "int8", "M, measured time").startswith("2.4")


def test_realisation_is_by_place() -> None:
    found = realisation(ASKED)
    assert cell(found, "prune50", "onnxruntime, batch 1") == cell(found, "prune50", "torch, batch 1") == "0.75"
    assert cell(found, "int8", "torch, batch 1") == ""


def test_composition_of_planted_shifts() -> None:
    found = composition(MEMBERS)
    assert found is not None
    macs = [one for one in found.data if one["axis"] == "macs"]
    assert {one["verdict"] for one in macs} == {"no difference from the product"}
    times = [one for one in found.data if one["axis"] == "latency"]
    assert len(times) == 3
    for one in times:  # pruning alone takes half the time, int8 too, both together 0.3 and not 0.25
        assert one["ratio"]["value"] == pytest.approx(0.25 / 0.3, rel=0.03)
        assert one["verdict"] == "less than the product"


def test_the_law_of_a_parallel_shift() -> None:
    found = law(MEMBERS)
    assert found is not None
    assert {one["variant"] for one in found.data} == {"prune", "int8", "both"}
    assert {one["verdict"] for one in found.data} == {"parallel"}
    assert all(one["members"] == 3 for one in found.data)
    assert law(ASKED) is None  # one member tells nothing of the law


def test_against_the_field() -> None:
    found = field(ASKED)
    assert found is not None
    facts = {one["variant"]: one for one in found.data}
    assert facts["prune50"]["own_family"]["value"] == pytest.approx(1.6, rel=0.02)
    ratio, paper = facts["prune50"]["error_ratio"], facts["prune50"]["paper"]
    assert paper["value"] == pytest.approx(2 * ratio ** (-1 / 0.0821))
    assert paper["low"] < paper["value"] < paper["high"]
    assert "no published records for synthetic" in found.sentences[0]


def test_area_is_gained_by_what_lies_below_the_frontier() -> None:
    found = gained_area(ASKED)
    assert found is not None
    macs = next(one for one in found.data if one["axis"] == "macs")
    assert macs["each"]["prune50"] > 0
    assert macs["reference"] == {"compute": 6.4e6, "error": pytest.approx(error_at(1e5), abs=1e-3)}


def test_years_are_a_range_and_only_for_certain_shifts() -> None:
    found = years(ASKED)
    assert found is not None
    told = {(one["variant"], one["axis"]) for one in found.data}
    assert ("prune50", "macs") in told
    assert ("bf16", "latency") not in told
    assert all(one["years"]["least"] <= one["years"]["most"] for one in found.data)


def test_targets_divide_by_the_shift_and_say_that_this_is_a_what_if() -> None:
    found = paper_targets(ASKED)
    assert found is not None
    assert "what-if" in found.sentences[0]
    size = found.data[0]["multiplier"]
    assert size > 1.4
    assert 10 ** (found.data[0]["usd"] - found.data[0]["usd_after"]) == pytest.approx(size)


def test_life_cycle_by_hand() -> None:
    found = life(asked_of(example_study(), 1e6))
    assert found is not None
    one = next(one for one in found.data if one["variant"] == "prune50-int8")
    assert one["macs"] == 5e12 + 1e6 * 1.8e6
    assert one["macs_kept"] == 1e6 * 3.6e6
    assert one["break_even"] == pytest.approx(5e12 / 1.8e6)
    assert one["hours_kept"] == pytest.approx(1e6 * 1.44 / 1000 / 3600, rel=1e-3)


def test_the_linter_finds_what_is_lacking() -> None:
    found = {check.__name__: check(ASKED) for check in CHECKS}
    assert found["dense_family"] == (True, "6 members")
    assert not found["pairs"][0]
    assert not found["seeds"][0]
    assert found["same_twice"][0]
    alone = asked_of(study_of([record(BASELINE, 1e6, 0.2, role="baseline", latency_ms=1.0)]))
    lacking = {check.__name__ for check in CHECKS if not check(alone)[0]}
    assert {"dense_family", "operating_points", "both_ratios", "seeds", "pairs", "same_twice"} <= lacking
    assert linter(MEMBERS).sentences[0].endswith(f"of {len(CHECKS)} rules are kept.")


def test_rules_that_a_control_or_a_foreign_model_breaks() -> None:
    study = members_study()
    choosing = {check.__name__: check(asked_of(study)) for check in CHECKS}
    assert choosing["random_control"] == (False, "no control for prune_channels")
    assert choosing["magnitude_control"] == (True, "l2")
    assert choosing["validation"][0] is False  # these records say nothing of a training


def early_study(larger: float = 1.25) -> Study:
    """A model whose easy half takes 0.5 ms and whose other half 1.5 ms at batch 1; at batch 64 it takes `larger` of 40 ms."""
    groups = [{"macs": 1_000_000, "share": 0.5, "quality": 0.95}, {"macs": 3_000_000, "share": 0.5, "quality": 0.65}]
    swing = [[0.5, 1.5] * 12] * 6
    records = []
    for batch, base, mine in ((1, [[2.0] * 24] * 6, swing), (64, [[40.0] * 24] * 6, [[40.0 * larger] * 24] * 6)):
        for name, macs, times in ((BASELINE, 4e6, base), ("early", 2e6, mine)):
            role = "baseline" if name == BASELINE else "variant"
            one = record(name, macs, 0.2, role=role, latency_ms=1.0, batch_size=batch)
            one["latency"] |= {"rounds_ms": times, "inputs": 12, "starts": [2, 2, 2]}
            if name == "early":
                one["work"]["by_input"] = groups
            records.append(one)
    return study_of(records)


def test_work_by_input_and_its_percentiles() -> None:
    asked = asked_of(early_study())
    found = work_by_input(asked)
    assert (
        cell(found, "early", "share of examples at MACs (quality)")
        == "50 % at 1.00 M (95.0 %); 50 % at 3.00 M (65.0 %)"
    )
    assert [cell(found, "early", head) for head in ("p10", "mean", "p90", "theory")] == [
        "1.00 M",
        "2.00 M",
        "3.00 M",
        "2.00x",
    ]
    assert work_by_input(ASKED) is None
    assert adaptive_time(ASKED) is None
    thirds = [{"macs": macs, "share": 0.1, "quality": 1.0} for macs in range(10)]
    assert [percentile(thirds, percent) for percent in (10, 50, 90, 100)] == [0, 4, 8, 9]


def test_times_by_input_are_means_and_a_saving_that_vanishes_is_said() -> None:
    asked = asked_of(early_study())
    found = adaptive_time(asked)
    assert found is not None
    assert [line[2:5] for line in found.table] == [("1.00", "1.00", "1.50"), ("50.0", "50.0", "50.0")]
    assert found.data[0]["speedup"] == pytest.approx(2.0)  # 2 ms over the mean of 0.5 and 1.5 ms
    assert found.sentences == (
        "early on torch: MACs promise 2.00x; the clock says 2.00x [2.00, 2.00] at batch 1, 0.80x [0.80, 0.80] at batch 64; "
        "the saving vanishes at batch 64.",
    )
    seen = adaptive_time(asked_of(early_study(0.5)))
    assert seen is not None
    assert "vanishes" not in seen.sentences[0]


@pytest.mark.parametrize("make", SECTIONS, ids=lambda make: make.__name__)
def test_a_study_without_family_or_variants_breaks_no_section(make: Any) -> None:
    base = record(BASELINE, 1e6, 0.2, role="baseline", latency_ms=1.0)
    for records in (
        [base],
        [base, record("x", 5e5, 0.3, latency_ms=0.5)],
        [base, record("x", 1e6, 0.0, latency_ms=1.0)],
    ):
        found = make(asked_of(study_of(records)))
        if found is not None:
            assert markdown(found).startswith("## ")
            json.dumps(found.data, allow_nan=False)


def test_sections_are_plain_data(tmp_path: Any) -> None:
    paths = write_report(members_study(), tmp_path / "x").paths
    data = json.loads((tmp_path / "x" / "report.json").read_text())
    assert data["schema"] == 1
    assert data["sections"]["law"]["rows"][0]["verdict"] == "parallel"
    assert {path.name for path in paths} >= {"shifts.csv", "report.json"}
    lines = (tmp_path / "x" / "shifts.csv").read_text().splitlines()
    assert lines[0].startswith("study,variant,")
    assert {line.split(",")[10] for line in lines[1:]} == {"macs", "bits", "latency", "bytes"}
    assert all(dataclasses.is_dataclass(section) for section in [linter(MEMBERS)])
