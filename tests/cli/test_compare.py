"""What `compare` prints after a whole run on scripted times, line by line, and what it selects, refuses and gates."""

import os
import pty
from pathlib import Path

import pytest
from studies import BASELINE, example_study
from worlds import efflab, make_card, make_recipe

from efflab.cli import compare
from efflab.cli.main import build_parser, main
from efflab.foundation.errors import RequestError
from efflab.records.study import save_study

GOLDEN = Path(__file__).with_name("golden_compare.txt")
SCRIPTED = "{fake: {base_ms: 5.0, ns_per_byte: 100.0}}"


def test_compare_after_a_run_to_the_letter(in_folder):
    for name, width in (("tiny", 4), ("tiny-w2", 2), ("tiny-w8", 8)):
        make_card(in_folder, name, width, family="tinies")
    measure = (
        "seeds: [0, 1], batch_sizes: [1, 4], min_runs: 11, min_seconds: 0.01, max_seconds: 0.1, rounds: 5, threads: 1"
    )
    variants = "half:\n  - prune_channels: {ratio: 0.5, round_to: 1}\nonnx:\n  - export_onnx: {}"
    make_recipe(in_folder, variants, measure=measure, backends=f"[{SCRIPTED}]")
    ran = efflab("run", "r.yaml", cwd=in_folder)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stdout.count("fake runs torch modules") == 1  # of both batch sizes
    shown = efflab("compare", "r", cwd=in_folder)
    assert shown.returncode == 0, shown.stderr
    lines = [line for line in shown.stdout.splitlines() if not line.startswith(("machine: ", "timed while"))]
    assert "\n".join(lines) + "\n" == GOLDEN.read_text()


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
    with pytest.raises(RequestError, match="no row is left; speedup lies between .* nothing to judge"):
        run(folder, "--where", "speedup > 100", "--fail-if", "speedup < 1")


@pytest.mark.parametrize(
    ("where", "why"),
    [
        ("variant == 'int8' and backend == 'openvino'", "not judged, unavailable (openvino is not installed"),
        (f"variant == {BASELINE!r} and batch == 1", "not judged, baseline without speedup_low: net-w24 on"),
    ],
)
def test_a_gate_that_could_judge_no_row_fails(folder: Path, where: str, why: str, capsys) -> None:
    assert run(folder, "--where", where, "--fail-if", "speedup_low < 99") == 1
    told = capsys.readouterr().err
    assert why in told
    assert "gate failed: no row could be judged: speedup_low < 99" in told


def test_rows_that_a_gate_could_not_judge_are_named(folder: Path, capsys) -> None:
    assert run(folder, "--where", "variant == 'int8'", "--fail-if", "speedup_low < 1") == 0
    assert "not judged, unavailable (openvino is not" in capsys.readouterr().err
    assert run(folder, "--where", "variant == 'int8'", "--fail-if", "not speedup_low > 99") == 1
    assert "int8 on openvino batch 1; " not in capsys.readouterr().out


@pytest.mark.parametrize("option", ["--fail-if", "--where", "--sort", "--columns"])
@pytest.mark.parametrize("given", ["", " "])
def test_an_empty_option_is_a_wrong_request(folder: Path, option: str, given: str, capsys) -> None:
    assert main(["compare", str(folder), option, given]) == 2
    assert f"{option} is empty" in capsys.readouterr().err


def test_an_empty_selection_says_what_there_is(folder: Path, capsys) -> None:
    assert run(folder, "--where", "backend == 'onnx'") == 0
    assert capsys.readouterr().out.strip() == "no row is left; backend is 'onnxruntime', 'openvino', 'torch'"
    assert run(folder, "--where", "backend == 'torch' and backend == 'openvino'") == 0
    assert "each part of --where holds for some row" in capsys.readouterr().out


def test_no_study_is_named_clearly(in_folder: Path, capsys) -> None:
    (in_folder / "reports" / "sample").mkdir(parents=True)
    save_study(example_study(), in_folder / "reports" / "sample" / "study.json")
    for name, said in (("", "the name of a study is empty"), ("sampel", "no study named 'sampel'")):
        assert main(["compare", name]) == 2
        told = capsys.readouterr().err
        assert said in told
        assert "a study lies in reports/sample" in told


def test_a_narrow_terminal_gets_whole_columns_and_hears_of_the_others(folder: Path) -> None:
    shown = on_terminal(80, "compare", str(folder))
    assert max(map(len, shown.splitlines())) <= 80
    assert "left out, as the terminal is 80 characters wide" in shown
    assert "shift, time [95 %]" in efflab("compare", str(folder), cwd=folder).stdout


def on_terminal(columns: int, *words: str) -> str:
    """Run the command line on a terminal of this width and return what it shows."""
    import sys

    environment = {**os.environ, "COLUMNS": str(columns), "OMP_NUM_THREADS": "1"}
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(sys.executable, [sys.executable, "-m", "efflab.cli.main", *words], environment)
    shown = b""
    try:
        while part := os.read(terminal, 65536):
            shown += part
    except OSError:  # Linux: the other side has closed
        pass
    os.waitpid(pid, 0)
    os.close(terminal)
    return shown.decode().replace("\r\n", "\n")


def test_wrong_requests(folder: Path) -> None:
    with pytest.raises(RequestError, match="unknown column 'speed'"):
        run(folder, "--sort", "speed")
    with pytest.raises(RequestError):
        run(folder / "nothing.json")
