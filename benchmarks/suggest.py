"""Seconds that `efflab suggest` takes from 10,000 records, the first time and again: python benchmarks/suggest.py

The records are those of reports/, repeated as studies of other baselines of the same sizes, with times a few percent off. Given
beside: the seconds in which Python reads the same files with `json` and does nothing with them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
RECORDS = 10_000
READ = "import json, pathlib, sys; [json.loads(path.read_text()) for path in pathlib.Path(sys.argv[1]).glob('*/study.json')]"
ASKED = ["digits-resnet-w11", "--backend", "openvino", "--batch", "64", "--within", "1"]


def renamed(study: dict[str, Any], copy: int) -> dict[str, Any]:
    """The same study of baselines that have other names, measured with other noise."""
    generator = np.random.default_rng(copy)
    cards = {record["baseline"] for record in study["records"]}
    records = []
    for record in study["records"]:
        own = {name: f"{record[name]}-{copy}" for name in ("variant", "baseline", "of") if record[name] in cards}
        made = {**record, **own}
        if "latency" in record:
            off = generator.normal(1, 0.03)
            rounds = [[round(time * off, 6) for time in one] for one in record["latency"]["rounds_ms"]]
            made["latency"] = {**record["latency"], "rounds_ms": rounds}
        records.append(made)
    return {**study, "name": f"{study['name']}-{copy}", "records": records}


def write(folder: Path) -> int:
    """Write studies of at least RECORDS records; return how many."""
    studies = [json.loads(path.read_text()) for path in sorted(ROOT.glob("reports/*/study.json"))]
    count, copy = 0, 0
    while count < RECORDS:
        for study in studies:
            made = renamed(study, copy) if copy else study
            place = folder / made["name"]
            place.mkdir()
            (place / "study.json").write_text(json.dumps(made, separators=(",", ":")))
            count += len(made["records"])
        copy += 1
    return count


def seconds(words: list[str], store: Path) -> float:
    start = time.perf_counter()
    environment = {**os.environ, "EFFLAB_STORE": str(store), "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL, cwd=ROOT, env=environment)
    return time.perf_counter() - start


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        records, store = Path(folder, "records"), Path(folder, "store")
        records.mkdir()
        count = write(records)
        size = sum(path.stat().st_size for path in records.glob("*/study.json")) / 1e6
        plain = min(seconds(["-c", READ, str(records)], store) for _ in range(3))
        words = ["-m", "efflab.cli.main", "suggest", *ASKED, "--records", str(records)]
        first = seconds(words, store)
        again = min(seconds(words, store) for _ in range(3))
        print(f"{count:,} records, {size:.0f} MB; read with json alone: {plain:.2f} s")
        for name, value in (("first call", first), ("every later call", again)):
            print(f"efflab suggest, {name}: {value:.2f} s, {value / plain:.1f} times that")


if __name__ == "__main__":
    main()
