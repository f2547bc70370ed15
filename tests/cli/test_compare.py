"""What `compare` prints after a whole run on scripted times, line by line."""

from pathlib import Path

from worlds import efflab, make_card, make_recipe

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
    shown = efflab("compare", "r", cwd=in_folder)
    assert shown.returncode == 0, shown.stderr
    lines = [line for line in shown.stdout.splitlines() if not line.startswith("machine: ")]
    assert "\n".join(lines) + "\n" == GOLDEN.read_text()
