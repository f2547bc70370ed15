"""Sub-nets against stand-alone nets, on studies whose truth is known."""

from __future__ import annotations

import json
from typing import Any

import pytest
from studies import FAMILY, error_at, record, study_of

from efflab.comparison.columns import AXES
from efflab.comparison.compare import assess
from efflab.records.record import Record
from efflab.reporting.report import write_report
from efflab.reporting.section import Asked, Section, markdown
from efflab.reporting.sections.supernet import amortisation, rank_correlation, supernet

LARGEST = "net-w32"
TRAINED: dict[str, Any] = {"train_supernet": {"widths": [0.5], "epochs": 2}}
SPENT, OWN = 6.4e9, 3.6e9  # of the baseline's training, and of the supernet's
# training MACs of the dense nets: a thousand times their own: 0.1, 0.4, 0.9, 1.6, 3.6 and 6.4 G


def dense(backend: str = "torch", known: bool = True) -> list[Record]:
    return [
        record(
            name, macs, error_at(macs), role="baseline" if name == LARGEST else "dense", seed=seed, of=None, baseline=name,
            backend=backend, **({"training": cost(1000 * macs)} if known else {}),
        )
        for name, macs in FAMILY.items()
        for seed in range(3)
    ]  # fmt: skip


def cost(macs: float) -> dict[str, float]:
    return {"training_macs": macs, "seconds": 1.0, "hardware_burden_flop": 0.0}


def made(name: str, macs: float, error: float, steps: list[dict[str, Any]], seed: int = 0, **more: Any) -> Record:
    one = record(
        name, macs, error, of=LARGEST, baseline=LARGEST, seed=seed, recovery_macs=OWN, training=cost(SPENT), **more
    )
    one["steps"] = steps
    return one


def subnets(worse: float = 0.02, names: tuple[str, ...] = tuple(FAMILY), **more: Any) -> list[Record]:
    """Cut from one supernet; each has `worse` more error than its twin, and those named are there."""
    records = []
    for seed in range(3):
        for name in names:
            cuts = [] if name == LARGEST else [{"cut_subnet": {"width": 0.5}}]
            error = error_at(FAMILY[name]) + worse
            records.append(made(f"sub-{name}", FAMILY[name], error, [TRAINED, *cuts], seed, **more))
    return records


def asked_of(records: list[Record]) -> Asked:
    study = study_of(records)
    return Asked(study, assess(study, AXES, 400))


def cell(section: Section | None, line: str, column: str) -> str:
    assert section is not None
    return next(row[section.heads.index(column)] for row in section.table if row[0] == line)


def test_each_subnet_stands_beside_the_net_of_its_size() -> None:
    found = supernet(asked_of(dense() + subnets()))
    assert found is not None
    assert [row[0] for row in found.table] == [f"sub-{name}" for name in reversed(FAMILY)]
    assert cell(found, "sub-net-w8", "stand-alone net") == "net-w8"
    assert cell(found, "sub-net-w8", "points [95 %]").startswith("-2.0 [")
    assert cell(found, "sub-net-w8", "training MACs of the stand-alone net") == "400 M"
    facts = next(one for one in found.data if one["subnet"] == "sub-net-w8")
    assert facts["points"]["value"] == pytest.approx(-2.0, abs=0.05)
    assert facts["points"]["low"] < -2.0 < facts["points"]["high"] < 0
    assert facts["verdict"] == "worse"
    assert facts["stand_alone_quality"] - facts["inherited"] == pytest.approx(0.02, abs=5e-4)
    assert found.sentences == ("sub-net-w32: Kendall's tau of inherited and stand-alone quality is 1.00 over 6 sizes.",)


def test_an_interval_that_holds_a_loss_beyond_the_margin_is_undecided() -> None:
    """Errors on other examples than the twin's: no difference in the mean, but nothing surer than a point or two."""
    apart = [made("apart", 4e5, error_at(4e5), [TRAINED, {"cut_subnet": {}}], seed, phase=1) for seed in range(3)]
    found = supernet(asked_of([*dense(), *apart]))
    assert found is not None
    facts = found.data[0]
    assert facts["points"]["low"] < -1 < 0 < facts["points"]["high"]
    assert facts["verdict"] == "undecided"


def test_rank_correlation_by_hand() -> None:
    # of six pairs of pairs five agree in order: (5 - 1) / 6
    assert rank_correlation([(1, 1), (2, 2), (3, 4), (4, 3)]) == pytest.approx(2 / 3)
    assert rank_correlation([(1, 4), (2, 3), (3, 2), (4, 1)]) == pytest.approx(-1)
    assert rank_correlation([(1, 1), (2, 2), (3, 3)]) is None
    assert rank_correlation([(1, 1), (1, 2), (1, 3), (1, 4)]) is None


def test_fewer_than_four_sizes_have_no_rank() -> None:
    found = supernet(asked_of(dense() + subnets(names=("net-w4", "net-w8", LARGEST))))
    assert found is not None
    assert "too few sizes (3)" in found.sentences[0]


def test_a_size_without_twin_and_what_was_cut_without_training() -> None:
    own = made("odd", 5e5, 0.4, [TRAINED, {"cut_subnet": {"width": 0.4}}])
    naive = made("naive", 4e5, 0.8, [{"cut_subnet": {"width": 0.5}}])
    found = supernet(asked_of([*dense(), *subnets(), own, naive]))
    assert found is not None
    assert cell(found, "odd", "stand-alone net") == "none of this size"
    assert not any(row[0] == "naive" for row in found.table)
    assert found.sentences[-1] == "Cut from a net that was not trained for it: naive 20.00 %."


def test_what_was_changed_after_the_cut_is_not_inherited() -> None:
    tuned = made("tuned", 4e5, 0.3, [TRAINED, {"cut_subnet": {"width": 0.5}}, {"finetune": {}}])
    found = supernet(asked_of([*dense(), *subnets(), tuned]))
    assert found is not None
    assert not any(row[0] == "tuned" for row in found.table)
    assert supernet(asked_of([*dense(), tuned])) is None


def test_one_backend_is_shown() -> None:
    both = [one for backend in ("torch", "openvino") for one in dense(backend) + subnets(backend=backend)]
    found = supernet(asked_of(both))
    assert found is not None
    assert len(found.table) == 6
    assert found.notes[0].startswith("On torch, ")


def test_two_supernets_are_kept_apart() -> None:
    other = made(
        "other",
        4e5,
        0.5,
        [{"train_supernet": {"widths": [0.25], "epochs": 2}}, {"cut_subnet": {"width": 0.25}}, {"export_onnx": {}}],
    )
    found = supernet(asked_of([*dense(), *subnets(), other]))
    assert found is not None
    assert {one["supernet"] for one in found.data} == {"sub-net-w32", "the supernet of net-w32"}


def test_amortisation_by_hand() -> None:
    """10 G for the supernet with its baseline; stand-alone 6.4, 3.6, 1.6, 0.9, 0.4, 0.1 G, which are 13 G together."""
    found = amortisation(asked_of(dense() + subnets()))
    assert found is not None
    by_targets = {one["targets"]: one for one in found.data}
    assert by_targets[2]["dearest_macs"] == pytest.approx(10.0e9)
    assert by_targets[3]["dearest_macs"] == pytest.approx(11.6e9)
    assert by_targets[5]["cheapest_macs"] == pytest.approx(6.6e9)
    assert [row[-1] for row in found.table] == ["no", "no", *["if they are the dearest"] * 3, "whichever they are"]
    # at 13 / 6 G each, five are the first to exceed 10 G; 3.6 G alone against (13 - 6.4) / 5 = 1.32 G each: three
    assert found.sentences == (
        "sub-net-w32 took 10.0 GMACs of training with its baseline's, the 6 stand-alone nets 13.0 GMACs: cheaper from 3 of "
        "these targets on, the dearest first; at their mean cost, from 5 targets on.",
        "Where the baseline is there already, its own 3.60 GMACs are won back from 3 smaller nets on.",
    )


def test_few_small_targets_never_pay_and_the_section_says_from_when() -> None:
    found = amortisation(asked_of(dense() + subnets(names=("net-w4", "net-w8"))))
    assert found is not None
    assert {row[-1] for row in found.table} == {"no"}
    # 0.5 G for two: at 0.25 G each, 41 are the first to exceed 10 G
    assert "not cheaper within these 2 targets; at their mean cost, from 41 targets on" in found.sentences[0]


def test_one_target_is_spoken_of_as_one() -> None:
    found = amortisation(asked_of(dense() + subnets(names=("net-w4",))))
    assert found is not None
    said = "the stand-alone net 100 MMACs: not cheaper within this one target; at its cost, from 101 targets on."
    assert found.sentences[0].endswith(said)


def test_what_is_not_known_is_said() -> None:
    found = amortisation(asked_of(dense(known=False) + subnets()))
    assert found is not None
    assert found.table == ()
    assert "not known" in found.sentences[0]


def test_no_supernet_no_section() -> None:
    for make in (supernet, amortisation):
        assert make(asked_of(dense())) is None
        assert make(asked_of(dense() + subnets(names=(LARGEST,)))) is None


def test_a_report_holds_both_sections(tmp_path: Any) -> None:
    written = write_report(study_of(dense() + subnets()), tmp_path / "x")
    page, text = ((tmp_path / "x" / name).read_text() for name in ("index.html", "report.md"))
    for title in (
        "Sub-nets against stand-alone nets of the same size", "Training of one supernet against one net for each target",
    ):  # fmt: skip
        assert title in page
        assert f"## {title}" in text
    facts = json.loads((tmp_path / "x" / "report.json").read_text())["sections"]
    assert len(facts["supernet"]["rows"]) == len(facts["amortisation"]["rows"]) == 6
    assert written.headlines
    assert markdown(supernet(asked_of(dense() + subnets())) or Section("", "")).count("\n") > 6
