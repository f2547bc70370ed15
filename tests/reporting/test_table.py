import csv
import io
import json
from pathlib import Path

import pytest
from studies import BASELINE, example_study, failed, record, study_of

from efflab.comparison.columns import COLUMNS
from efflab.comparison.compare import rows
from efflab.foundation.errors import RequestError
from efflab.reporting.footer import footer
from efflab.reporting.layout import comparison
from efflab.reporting.numbers import si
from efflab.reporting.table import choose, render, show

ROWS = rows(example_study())
GOLDEN = Path(__file__).with_name("golden_table.txt")


def test_golden_table() -> None:
    shown = [row for row in ROWS if row["backend"] != "torch" and row["batch_size"] == 1]
    assert comparison(shown)[0] + "\n\n" + "\n".join(footer(shown)) + "\n" == GOLDEN.read_text()


def test_the_short_table_fits_a_wide_terminal() -> None:
    assert max(map(len, render(ROWS).splitlines())) <= 175


def test_units() -> None:
    assert [si(40_812_544), si(999_700), si(12), si(0.5), si(1.6e12, "B")] == [
        "40.8 M",
        "1.00 M",
        "12",
        "0.5",
        "1.60 TB",
    ]
    row = next(row for row in ROWS if row["variant"] == "prune50")
    assert show(row, "latency_ms_p99") == "n/a (n = 132)"
    assert show(row, "macs") == "1.80 M"
    assert show(row, "quality") == "75.75 %"
    assert show(row, "pareto") == "yes"


def test_raw_formats_hold_every_column_and_digit() -> None:
    told = list(csv.DictReader(io.StringIO(render(ROWS, style="csv"))))
    data = json.loads(render(ROWS, style="json"))
    assert list(told[0]) == list(data[0]) == list(COLUMNS)
    for text, row, raw in zip(told, data, ROWS, strict=True):
        assert row == raw.flat()
        assert text["speedup"] == ("" if raw["speedup"] is None else f"{raw['speedup']:.10g}")


@pytest.mark.parametrize("style", ["github", "latex", "html", "rst"])
def test_any_tabulate_format(style: str) -> None:
    assert "prune50" in render(ROWS, style=style)


def test_wrong_columns_and_formats_name_the_nearest() -> None:
    with pytest.raises(RequestError, match="did you mean 'speedup'"):
        choose("variant,speedups")
    with pytest.raises(RequestError, match="did you mean 'github'"):
        render(ROWS, style="githb")
    assert choose("all") == list(COLUMNS)
    with pytest.raises(RequestError, match="no column is named"):
        choose(",")


def test_headings_are_names_of_columns_too() -> None:
    assert choose("variant,batch,points,ms,speed-up,theory,realised,shift,shift_low") == [
        "variant", "batch_size", "quality_difference", "latency_ms_p50", "speedup", "theoretical_speedup",
        "realisation", "shift_latency", "shift_latency_low"]  # fmt: skip


@pytest.mark.parametrize("style", ["simple", "github"])
def test_named_columns_look_as_they_do_by_default(style: str) -> None:
    rows = [row for row in ROWS if row["variant"] == "prune50"]
    told = render(rows, choose("points,speedup,shift"), style)
    assert "points [95 %]" in told
    assert "-1.3 [-1.9, -0.8] worse" in told
    assert "1.500x [1.495, 1.505] faster" in told
    assert "quality_difference" not in told


def test_all_columns_stand_upright() -> None:
    told = render(ROWS[:3], choose("all"))
    assert max(map(len, told.splitlines())) < 130
    assert told.count("latency_ms_p50 ") == 3


def test_a_row_without_values_says_why_in_its_first_free_column() -> None:
    rows = [row for row in ROWS if row["status"] == "unavailable"]
    assert render(rows, choose("variant,backend,ms,speedup")).splitlines()[-1].split() == [
        "int8",
        "openvino",
        "unavailable",
    ]
    assert render(rows, choose("variant,status")).splitlines()[-1].split() == ["int8", "unavailable"]


def test_the_order_of_records_does_not_change_the_numbers() -> None:
    study = example_study()
    study["records"].reverse()
    again = {(row["variant"], row["backend"], row["batch_size"]): row for row in rows(study)}
    for row in ROWS:
        other = again[(row["variant"], row["backend"], row["batch_size"])]
        assert other["speedup_low"] == row["speedup_low"]
        assert other["quality_difference"] == pytest.approx(row["quality_difference"])


def test_a_reason_stands_once_with_all_its_batches_and_variants() -> None:
    lost = [failed(name, "no memory", batch_size=batch) for name in ("a", "b") for batch in (1, 64)]
    lost += [failed("c", "no memory", batch_size=64), failed("d", "a crash", batch_size=1)]
    assert [line for line in footer(rows(study_of(lost))) if line.startswith("failed")] == [
        "failed on torch batch 1 and 64: a, b: no memory",
        "failed on torch batch 64: c: no memory",
        "failed on torch batch 1: d: a crash",
    ]


def test_a_variant_of_another_card_has_a_sign_and_a_line_that_explains_it() -> None:
    assert not [line for line in footer(ROWS) if "other start" in line]
    base = record(BASELINE, 1e6, 0.2, role="baseline", latency_ms=1.0)
    own = record("own", 5e5, 0.2, latency_ms=0.5)
    other = record("other", 5e5, 0.2, latency_ms=0.5, baseline="net-w8")
    found = rows(study_of([base, own, other]))
    assert [show(row, "variant") for row in found] == [BASELINE, "own", "other o"]
    assert [row["variant"] for row in found] == [BASELINE, "own", "other"]  # names in csv and json are as they were
    (line,) = [line for line in footer(found) if "other start" in line]
    assert line.startswith("o other start: made of net-w8, and compared with net-w24")
    assert line.endswith(": other")
