"""The paper's own fits from the authors' tables, to the printed digits; skipped where the tables are not at hand."""

import os
from pathlib import Path

import pytest

from efflab.frontier.points import read_points
from efflab.frontier.regression import least_squares

FOLDER = Path(os.environ.get("EFFLAB_DATA", "/nonexistent")) / "frontier_computational_limits"
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="the authors' tables are not under EFFLAB_DATA")

IMAGENET, COCO = "image-classification-on-imagenet", "object-detection-on-coco"
SQUAD, CONLL, WMT = (
    "question-answering-on-squad-1-1",
    "named-entity-recognition-on-conll-2003",
    "machine-translation-on-wmt2014-en-fr",
)
BURDEN = "consolidated_hardware_burden"


@pytest.mark.parametrize(
    ("file", "compute", "n", "a", "b", "r2"),
    [
        (IMAGENET, "ops_forward_pass", 110, 0.0915, -0.0821, 0.606),
        (IMAGENET, "network_operations", 77, 0.8539, -0.0836, 0.720),
        (IMAGENET, "hardware_burden", 36, 1.1563, -0.0933, 0.766),
        (IMAGENET, BURDEN, 102, 1.0673, -0.0908, 0.694),
        (COCO, "ops_forward_pass", 14, 0.4242, -0.0609, 0.592),
        (COCO, "network_operations", 7, 0.8486, -0.0584, 0.860),
        (COCO, BURDEN, 20, 0.9353, -0.0610, 0.814),
        (SQUAD, "hardware_burden", 12, 1.1230, -0.0956, 0.872),
        (CONLL, "hardware_burden", 12, -0.6333, -0.0269, 0.417),
        (WMT, "hardware_burden", 14, 0.2351, -0.0236, 0.147),
    ],
)
def test_power_laws(file, compute, n, a, b, r2):
    points = read_points(FOLDER / f"{file}.csv", compute, "error")
    fit = least_squares(points.compute, points.error)
    assert (fit.n, round(fit.a, 4), round(fit.b, 4), round(fit.r2, 3)) == (n, a, b, r2)


@pytest.mark.parametrize(
    ("file", "a", "b", "r2"),
    [
        (IMAGENET, -19.85, 1.2825, 0.747),
        (COCO, -3.451, 0.2701, 0.814),
        (SQUAD, -20.39, 1.3628, 0.878),
        (CONLL, -2.051, 0.8520, 0.376),
    ],
)
def test_exponential_forms(file, a, b, r2):
    points = read_points(FOLDER / f"{file}.csv", BURDEN if file in (IMAGENET, COCO) else "hardware_burden", "error")
    fit = least_squares(points.compute, points.error, form="exponential")
    assert fit.a == pytest.approx(a, abs=0.006)
    assert (round(fit.b, 4), round(fit.r2, 3)) == (b, r2)


def test_algorithmic_progress():
    points = read_points(FOLDER / f"{IMAGENET}.csv", "network_operations", "error", "year")
    fit = least_squares(points.compute, points.error, points.year)
    assert (round(fit.b, 4), round(fit.g, 4), round(fit.r2, 3)) == (-0.0638, -0.0250, 0.831)
    assert fit.progress_dex == pytest.approx(0.392, abs=0.0005)
