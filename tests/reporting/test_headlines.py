from typing import Any

from studies import BASELINE, FAMILY, error_at, example_study, failed, record, study_of

from efflab.comparison.compare import rows
from efflab.reporting.headlines import headlines

RECORDS = [one for one in example_study()["records"] if one["batch_size"] == 1]


def told(*extra: Any) -> str:
    return "\n".join(headlines(rows(study_of([*RECORDS, *extra]))))


def test_the_control_is_judged_as_the_claim_it_controls_is() -> None:
    macs = FAMILY[BASELINE] / 2
    pair = [
        record("thin", macs, error_at(macs * 1.6), latency_ms=2.4, noise_seed=3),
        record("thin~random", macs, error_at(macs * 0.6), role="control", latency_ms=2.4, noise_seed=4),
    ]
    (line,) = [line for line in told(*pair).splitlines() if line.startswith("Control, ")]
    assert (
        "in 1 of 1 pairs the choice is surely better than a random one; for instance thin on torch, batch 1 has 1.2"
        in line
    )
    assert "with a random choice 0.45x [0.39, 0.5" in line
    assert "their quality: -1.3 [" in line
    assert "Control, " not in told(pair[0])


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


def test_the_theory_sentence_is_of_rows_that_save_enough_and_says_so() -> None:
    little = record("little", FAMILY[BASELINE] / 1.09, 0.2, latency_ms=7.2, noise_seed=5)
    (line,) = [line for line in told(little).splitlines() if line.startswith("Theory")]
    assert "rows that save 1.1x or more realise 0.75 (prune50 on" in line
    assert "little" not in line


def test_what_was_timed_too_roughly_is_not_called_as_fast_as_the_baseline() -> None:
    lines = told(rough()).splitlines()
    (line,) = [line for line in lines if line.startswith("Timed too roughly")]
    assert line.startswith("Timed too roughly to say whether faster or slower: rough on torch, batch 1 (")
    assert line.endswith(", undecided).")
    assert not [line for line in lines if line.startswith("Not faster") and "rough" in line]


def rough() -> Any:
    """A row whose rounds take from a fifth to five times the usual."""
    one = record("rough", 3.6e6, 0.2, latency_ms=3.6, noise_seed=5)
    wide = [0.2, 0.3, 0.5, 0.7, 0.9, 1.0, 1.0, 1.2, 1.5, 2.0, 3.0, 5.0]
    one["latency"]["rounds_ms"] = [
        [time * factor for time in times] for times, factor in zip(one["latency"]["rounds_ms"], wide, strict=True)
    ]
    return one


def test_what_was_not_measured_stands_once_with_its_batches() -> None:
    lost = [failed("early", "no memory", batch_size=batch) for batch in (1, 64)]
    other = [failed("late", "not here", status="unavailable", batch_size=batch) for batch in (1, 64)]
    assert headlines(rows(study_of([*lost, *other])))[-1] == (
        "Not measured: early on torch batch 1 and 64; late on torch. The reasons stand under the table."
    )
