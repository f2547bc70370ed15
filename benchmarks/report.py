"""What large studies take: reports over 1,000 and 10,000 profiles, and `compare` over 10,000: python benchmarks/report.py

Seconds, the most memory, and bytes of the page. Profiles are synthetic records of 10,000 test examples each, and of a measured
study whose variants are repeated with other times; the time of `import altair` is given beside, as a yardstick.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import cast

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from studies import FAMILY, error_at, record, study_of  # noqa: E402

from efflab.records.record import Record  # noqa: E402
from efflab.records.study import Study, load_study, save_study  # noqa: E402

EXAMPLES = 10_000


def study(profiles: int, name: str) -> Study:
    """A family of six and variants on three backends at two batch sizes, until there are so many profiles."""
    records = []
    places = [(backend, batch) for backend in ("torch", "onnxruntime", "openvino") for batch in (1, 64)]
    names = list(FAMILY.items())
    while len(records) < profiles:
        index = len(records) // len(places)
        for backend, batch in places:
            if index < len(names):
                model, macs = names[index]
                role, error, steps = ("baseline" if model == "net-w24" else "dense"), error_at(macs), ()
            else:
                model, role, steps = f"v{index}", "variant", ("prune_channels",)
                macs = 3.6e6 / (1 + (index % 37) / 20)
                error = error_at(macs * (1 + (index % 5) / 10))
            records.append(
                record(model, macs, error, role=role, latency_ms=macs * 1e-6, noise_seed=index, steps=steps,
                       backend=backend, batch_size=batch, phase=index % 7, examples=EXAMPLES)
            )  # fmt: skip
    return study_of(records[:profiles], name)


def grown(path: Path, profiles: int, name: str) -> Study:
    """A measured study whose variants are repeated, with other times, until there are so many profiles."""
    whole = load_study(path)
    variants = [one for one in whole["records"] if one["role"] in ("variant", "control")]
    records, generator, turn = list(whole["records"]), np.random.default_rng(0), 0
    while len(records) < profiles:
        turn += 1
        factor = float(generator.uniform(0.8, 1.25))
        for one in variants:
            again = {**one, "variant": f"{one['variant']}-{turn}"}
            if "latency" in one:
                rounds = [[time * factor for time in times] for times in one["latency"]["rounds_ms"]]
                again["latency"] = {**one["latency"], "rounds_ms": rounds}
            records.append(cast("Record", again))
    return {**whole, "name": name, "records": records[:profiles]}


def measured(words: list[str]) -> tuple[float, float]:
    """Seconds of a command, and the most memory that it held, in GB."""
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "efflab.cli.main", *words], stdout=subprocess.DEVNULL, cwd=ROOT)
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"efflab {' '.join(words)} ended with {os.waitstatus_to_exitcode(status)}")
    return time.perf_counter() - start, used.ru_maxrss / 1e6


def first_paint_ms(page: Path) -> float | None:
    """Milliseconds until headless Chromium has painted the page's first content, where there is a Chromium."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (chromium and driver):
        return None
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"):
        options.add_argument(flag)
    browser = webdriver.Chrome(options=options, service=Service(driver))
    browser.get(page.as_uri())
    found = browser.execute_script("return performance.getEntriesByName('first-contentful-paint')[0].startTime")
    browser.quit()
    return float(found)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
        small, large = Path(folder, "small.json"), Path(folder, "large.json")
        save_study(study(1_000, "small"), small)
        save_study(study(10_000, "large"), large)
        save_study(
            grown(ROOT / "reports" / "digits-pruning" / "study.json", 10_000, "grown"), Path(folder, "grown.json")
        )
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", "import altair"], check=True)
        print(f"import altair: {time.perf_counter() - start:.2f} s")
        for name, what in (("small", "1,000 profiles"), ("large", "10,000"), ("grown", "10,000 of a measured study")):
            out = Path(folder, f"report-{name}")
            taken, memory = measured(["report", f"{folder}/{name}.json", "--out", str(out)])
            size = (out / "index.html").stat().st_size / 1e6
            print(f"efflab report, {what}: {taken:.1f} s, {memory:.2f} GB, page {size:.2f} MB")
            paint = first_paint_ms(out / "index.html")
            print(
                "first paint: no Chromium here" if paint is None else f"first paint, the figure in it: {paint:.0f} ms"
            )
        taken, memory = measured(["compare", str(large)])
        print(f"efflab compare, 10,000 profiles: {taken:.1f} s, {memory:.2f} GB")


if __name__ == "__main__":
    main()
