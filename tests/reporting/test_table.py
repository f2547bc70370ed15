import csv
import io
import json
from pathlib import Path

import pytest
from studies import example_study

from efflab.cli import compare
from efflab.cli.main import build_parser
from efflab.errors import RequestError
from efflab.reporting.columns import COLUMNS
from efflab.reporting.rows import rows
from efflab.reporting.table import choose, decimals, footer, render, show, si
from efflab.study import save_study

ROWS = rows(example_study())
GOLDEN = Path(__file__).with_name("golden_table.txt")


def test_golden_table() -> None:
    shown = [row for row in ROWS if row["backend"] != "torch" and row["batch_size"] == 1]
    assert render(shown) + "\n\n" + "\n".join(footer(shown)) + "\n" == GOLDEN.read_text()


def test_the_short_table_fits_a_wide_terminal() -> None:
    assert max(map(len, render(ROWS).splitlines())) <= 170


@pytest.mark.parametrize(
    ("low", "high", "places"), [(2.25, 2.38, 2), (1.2, 3.4, 0), (1.1, 1.9, 1), (1, 1, 2), (1, 1.00001, 3)]
)
def test_digits_as_the_interval_supports(low: float, high: float, places: int) -> None:
    assert decimals(low, high) == places


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
        assert row == raw
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


def run(folder: Path, *words: str) -> int:
    return compare.run(build_parser("compare").parse_args(["compare", str(folder), *words]))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("study")
    save_study(example_study(), where / "study.json")
    return where


def test_compare_filters_sorts_and_gates(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "--where",
        'role == "variant" and batch_size == 1',
        "--sort=-speedup",
        "--columns",
        "variant,speedup",
        "--format",
        "csv",
    ]
    assert run(folder, *words, "--fail-if", "speedup_low < 0.5") == 0
    assert [line.split(",")[0] for line in capsys.readouterr().out.splitlines()] == [
        "variant", "prune50-int8", "int8", "prune50", "prune50", "bf16", "prune90", "int8"]  # fmt: skip
    assert run(folder, *words, "--fail-if", "speedup_low < 1.2") == 1
    assert "gate failed: bf16 on torch batch 1 (m1)" in capsys.readouterr().err


def test_pareto_keeps_only_undominated_rows(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "--pareto",
        "--where",
        'backend == "onnxruntime" and batch_size == 1',
        "--columns",
        "variant",
        "--format",
        "csv",
    ]
    assert run(folder, *words) == 0
    told = capsys.readouterr().out.split()
    assert told == ["variant", "net-w4", "net-w8", "net-w24", "net-w32", "int8", "prune50-int8"]


def test_a_gate_over_nothing_is_no_pass(folder: Path) -> None:
    with pytest.raises(RequestError, match="no row is left"):
        run(folder, "--where", "speedup > 100", "--fail-if", "speedup < 1")


def test_wrong_requests(folder: Path) -> None:
    with pytest.raises(RequestError, match="unknown column 'speed'"):
        run(folder, "--sort", "speed")
    with pytest.raises(RequestError):
        run(folder / "nothing.json")


def test_the_order_of_records_does_not_change_the_numbers(folder: Path) -> None:
    study = example_study()
    study["records"].reverse()
    again = {(row["variant"], row["backend"], row["batch_size"]): row for row in rows(study)}
    for row in ROWS:
        other = again[(row["variant"], row["backend"], row["batch_size"])]
        assert other["speedup_low"] == row["speedup_low"]
        assert other["quality_difference"] == pytest.approx(row["quality_difference"])
