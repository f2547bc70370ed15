"""Seconds that large studies take: a report over 1,000 profiles, and `compare` over 10,000: python benchmarks/report.py

Profiles are synthetic records of 10,000 test examples each; the time of `import altair` is given beside, as a yardstick.
"""

from __future__ import annotations

import contextlib
import io
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from studies import FAMILY, error_at, record, study_of  # noqa: E402

from efflab.records.study import Study, save_study  # noqa: E402

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


def seconds(words: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "efflab.cli.main", *words], check=True, stdout=subprocess.DEVNULL, cwd=ROOT)
    return time.perf_counter() - start


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
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", "import altair"], check=True)
        print(f"import altair: {time.perf_counter() - start:.2f} s")
        print(
            f"efflab report, 1,000 profiles, 2,000 draws: {seconds(['report', str(small), '--out', f'{folder}/r']):.1f} s"
        )
        print(f"page: {Path(folder, 'r', 'index.html').stat().st_size / 1e6:.2f} MB")
        paint = first_paint_ms(Path(folder, "r", "index.html"))
        print("first paint: no Chromium here" if paint is None else f"first paint, the figure in it: {paint:.0f} ms")
        print(f"efflab compare, 10,000 profiles: {seconds(['compare', str(large)]):.1f} s")


if __name__ == "__main__":
    main()
