import pytest
from studies import example_study, study_of

from efflab.comparison.compare import rows
from efflab.records.record import Promised
from efflab.reporting.footer import footer
from efflab.reporting.layout import comparison, left_out_line
from efflab.reporting.table import default_columns

STUDY = example_study()
ROWS = rows(STUDY)


@pytest.mark.parametrize("width", [60, 80, 100, 120, 200])
def test_a_terminal_is_never_overrun(width: int) -> None:
    table, left_out = comparison(ROWS, width=width)
    assert max(map(len, table.splitlines())) <= width
    assert bool(left_out) == (width < 180)
    if left_out:
        line = left_out_line(left_out, width)
        assert f"{width} characters" in line
        assert "--columns variant,backend,batch," in line
        assert "onnxruntime, batch 64:" in table


def test_the_most_important_columns_are_kept() -> None:
    head = comparison(ROWS, width=80)[0].splitlines()[0]
    assert head.split()[0] == "variant"
    assert "speed-up" in head


def test_a_pipe_and_other_formats_get_everything() -> None:
    assert comparison(ROWS)[1] == []
    assert comparison(ROWS, "github", 60)[1] == []


def test_the_dense_family_stands_in_one_block() -> None:
    table = comparison(ROWS)[0]
    moved, dense = table.split("\n\n")
    assert "net-w8 " not in moved
    assert len(dense.splitlines()) == 2 + 2 * 6
    assert "net-w24 (baseline)" in dense
    assert "net-w8" not in comparison([row for row in ROWS if row["role"] != "dense"])[0]


def test_the_lines_below_speak_of_what_is_shown() -> None:
    shown = [row for row in ROWS if row["backend"] == "torch" and row["batch_size"] == 1]
    lines = footer(shown, ROWS)
    assert [line for line in lines if "onnxruntime" in line or "batch 64" in line] == []
    assert sum(line.startswith("noise floor") for line in lines) == 1
    only = footer(shown, ROWS, ["variant", "quality"])
    assert not any(word in line for line in only for word in ("noise", "faster", "shift", "margin", "theory"))


def test_without_a_family_the_reason_stands_instead_of_the_legend() -> None:
    found = rows(study_of([one for one in STUDY["records"] if one["role"] != "dense"]))
    lines = footer(found, found, default_columns(found))
    assert "no shift: a law needs at least 3 family members (found 1)" in lines
    assert not any(line.startswith("shift =") for line in lines)


def test_a_broken_promise_is_said() -> None:
    for promised, said in (
        (0.77, "every dense model here keeps its card's promise"),
        (0.9, "broken: net-w24 on torch (77.05"),
    ):
        records = [dict(one) for one in STUDY["records"]]
        for one in records:
            if one["role"] == "baseline":
                one["promised"] = Promised(value=promised, tolerance=0.01)
        found = rows(study_of(records))  # type: ignore[arg-type]
        assert any(said in line for line in footer(found))
