"""Rows are compared at one place only, and a place knows the task's settings and data."""

import re
from pathlib import Path

from studies import BASELINE, example_study, record, study_of

import efflab
from efflab.comparison.compare import rows
from efflab.comparison.place import place_of

DENSE = record(BASELINE, 1e6, 0.2, role="baseline", latency_ms=1.0)


def test_two_settings_of_one_task_are_never_compared() -> None:
    same, other = ({"task_settings": {"digit": digit}} for digit in (3, 5))
    for more, compared in ((same, True), (other, False)):
        base = record(BASELINE, 1e6, 0.2, role="baseline", latency_ms=1.0, **same)
        base_row, row = rows(study_of([base, record("x", 5e5, 0.3, latency_ms=2.0, **more)]))
        assert row.against.speedup.known is compared
        assert row.against.difference.known is compared
        assert (row.against.theory is not None) is compared
        assert (row.against.beaten_by == BASELINE) is compared
        assert base_row.pareto
        assert row.pareto is not compared


def test_studies_of_other_data_have_fronts_of_their_own() -> None:
    one, slow = study_of([DENSE]), study_of([record("x", 1e6, 0.3, role="dense", latency_ms=2.0)], "other")
    assert [row.pareto for row in rows([one, slow])] == [True, False]
    slow["data"] = {"synthetic": "sha256:1"}
    assert [row.pareto for row in rows([one, slow])] == [True, True]


def test_what_a_place_leaves_out() -> None:
    first, large = (place_of(record("x", 1e6, 0.2, batch_size=size)) for size in (1, 64))
    elsewhere = place_of(record("x", 1e6, 0.2, backend="onnxruntime"))
    assert first != large
    assert first.without_batch() == large.without_batch() != elsewhere.without_batch()
    assert first.counted() == elsewhere.counted() != place_of(record("x", 1e6, 0.2, machine="m2")).counted()
    assert first.across_studies() == place_of(record("x", 1e6, 0.2), study=1).across_studies()
    assert (first.words, large.briefly) == ("torch, batch 1", "torch batch 64")


def test_the_public_rows_are_flat() -> None:
    found = efflab.rows(example_study())
    assert all(type(row) is dict for row in found)
    assert {type(value) for row in found for value in row.values()} <= {str, int, float, bool, type(None)}


def test_readers_of_rows_name_no_column() -> None:
    """A column's name stands in the table of columns and in what users write; code takes attributes."""
    package = Path(efflab.__file__).parent
    named = re.compile(r"""\brow\[["']|\.row\[["']""")
    files = [path for part in ("comparison", "reporting", "suggest") for path in (package / part).rglob("*.py")]
    assert [path.name for path in files if named.search(path.read_text())] == []
