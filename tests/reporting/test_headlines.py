from typing import Any

from studies import BASELINE, FAMILY, error_at, example_study, record, study_of

from efflab.reporting.headlines import headlines
from efflab.reporting.rows import rows

RECORDS = [one for one in example_study()["records"] if one["batch_size"] == 1]


def told(*extra: Any) -> str:
    return "\n".join(headlines(rows(study_of([*RECORDS, *extra]))))


def test_the_control_is_judged_as_the_claim_it_controls_is() -> None:
    macs = FAMILY[BASELINE] / 2
    pair = [
        record("thin", macs, error_at(macs * 1.6), latency_ms=2.4, noise_seed=3),
        record("thin~random", macs, error_at(macs * 0.6), role="control", latency_ms=2.4, noise_seed=4),
    ]
    (line,) = [line for line in told(*pair).splitlines() if line.startswith("Control")]
    assert (
        "in 1 of 1 pairs the choice is surely better than a random one; for instance thin on torch, batch 1 has 1.2"
        in line
    )
    assert "with a random choice 0.45x [0.39, 0.5" in line
    assert "their quality: -1.3 [" in line
    assert "Control" not in told(pair[0])


def test_theory_leaves_out_what_has_fewer_bits_too() -> None:
    (line,) = [line for line in told().splitlines() if line.startswith("Theory")]
    assert "prune50-int8" not in line
    assert "prune50 on onnxruntime" in line


def test_the_largest_shift_is_the_largest_of_the_certain_ones() -> None:
    vague = record("vague", 1e6, 0.06, latency_ms=1.0, noise_seed=5, examples=60)
    line = next(line for line in told(vague).splitlines() if line.startswith("Largest certain shift"))
    assert "prune50-int8 on onnxruntime, batch 1" in line


def test_controls_of_several_baselines_stand_beside_their_own_claim() -> None:
    macs = FAMILY[BASELINE] / 2
    pair = [
        record("thin@net-w24", macs, error_at(macs * 1.6), latency_ms=2.4, noise_seed=3),
        record("thin~random@net-w24", macs, error_at(macs * 0.6), role="control", latency_ms=2.4, noise_seed=4),
    ]
    assert "thin@net-w24 on torch, batch 1 has 1.2" in told(*pair)


def test_an_artefact_that_two_runtimes_answer_differently_is_named() -> None:
    same = [record("even", 1e6, 0.06, backend=backend, noise_seed=5) for backend in ("torch", "onnxruntime")]
    assert "Runtimes disagree" not in told(*same)
    odd = [
        record("odd", 1e6, error, backend=name, noise_seed=5) for name, error in (("torch", 0.06), ("onnxruntime", 0.5))
    ]
    (line,) = [line for line in told(*odd).splitlines() if line.startswith("Runtimes disagree")]
    assert line.startswith("Runtimes disagree on odd: -")
    assert "points on onnxruntime" in line
