import math
import os
from pathlib import Path

import numpy as np
import pytest

from efflab.frontier.cost import LifeCycle
from efflab.frontier.field import PAPER_ERROR, PAPER_EXPONENT, Field, distance, field_of, multiplier
from efflab.frontier.points import read_points
from efflab.frontier.progress import constants, targets, years_of
from efflab.frontier.regression import least_squares
from efflab.frontier.shift import Point, Shift, family_of, shift_of
from efflab.statistics import Interval

AUTHORS = Path(os.environ.get("EFFLAB_DATA", "/nonexistent")) / "frontier_computational_limits"
TABLES = {
    "ImageNet top-1": "image-classification-on-imagenet", "COCO box AP": "object-detection-on-coco",
    "SQuAD 1.1 exact match": "question-answering-on-squad-1-1",
    "CoNLL-2003 F1": "named-entity-recognition-on-conll-2003",
    "WMT14 EN-FR BLEU": "machine-translation-on-wmt2014-en-fr",
}  # fmt: skip


def test_years_by_hand() -> None:
    # AlexNet level by ShuffleNet: 18x in 5 years, a doubling in 15 months
    shuffle = constants()["progress"]["inference"][0]["dex_per_year"]
    assert 12 * math.log10(2) / shuffle == pytest.approx(15, abs=0.05)
    assert math.log10(18) / 5 == pytest.approx(0.251, abs=0.001)
    # 44x in 7 years, a doubling in 15.4 months
    assert 12 * 7 * math.log10(2) / math.log10(44) == pytest.approx(15.4, abs=0.05)
    exact = years_of(Interval(10, 10, 10), "inference")
    assert exact == (pytest.approx(1 / 0.278), pytest.approx(1 / 0.241))
    assert years_of(Interval(1, 1, 1), "training") == (0, 0)
    wide = years_of(Interval(2, 0.5, 8), "inference")
    assert wide.least < 0 < wide.most
    trained = years_of(Interval(10, 10, 10), "training")
    assert trained == (pytest.approx(1 / 0.90), pytest.approx(1 / 0.14))


def test_targets_are_the_papers_table() -> None:
    found = {(target.area, target.error): target for target in targets()}
    five = found["ImageNet top-1", 0.05]
    assert (round(five.power, 1), round(five.exponential, 1)) == (26.1, 31.1)
    # 2.8 powers of ten from 9 % to 5 %: twice the compute closes 11 %
    assert five.gap == pytest.approx(2.8, abs=0.05)
    assert math.log10(2) / five.gap == pytest.approx(0.11, abs=0.005)
    assert five.usd() == pytest.approx(9.3, abs=0.05)
    assert five.lb_co2() == pytest.approx(8.6, abs=0.06)
    assert five.usd(10) == pytest.approx(five.usd() - 1)
    assert not found["WMT14 EN-FR BLEU", 0.3].steady
    assert round(found["COCO box AP", 0.1].power, 1) == 31.7


@pytest.mark.skipif(not AUTHORS.is_dir(), reason="the authors' tables are not under EFFLAB_DATA")
@pytest.mark.parametrize("area", constants()["areas"], ids=lambda area: area["name"])
def test_the_constants_are_the_fits_of_the_authors_tables(area: dict[str, float]) -> None:
    name = TABLES[str(area["name"])]
    burden = "consolidated_hardware_burden" if name.startswith(("image", "object")) else "hardware_burden"
    points = read_points(AUTHORS / f"{name}.csv", burden, "error")
    power = least_squares(points.compute, points.error)
    assert power.n == area["n"]
    assert (power.a, power.b) == (pytest.approx(area["a"], abs=1e-6), pytest.approx(area["b"], abs=1e-6))
    assert power.errors[1] == pytest.approx(area["se_b"], abs=1e-6)
    other = least_squares(points.compute, points.error, form="exponential")
    assert (other.a, other.b) == (pytest.approx(area["a2"], abs=1e-5), pytest.approx(area["b2"], abs=1e-6))


def test_the_field_of_cifar10_and_the_worked_example_of_the_paper_exponent() -> None:
    known = field_of("cifar10")
    assert isinstance(known, Field)
    assert known.law.n >= 5
    assert 3 < -1 / known.law.b < 10
    assert "no published records" in str(field_of("digits_clutter"))
    assert "have MACs" in str(field_of("squad11"))


def shifted(naive: float, rho: float) -> Shift:
    compute = [1e5, 4e5, 1.6e6, 6.4e6, 2.56e7]
    family = family_of([Point(one, 2 * one**-0.2) for one in compute], 500)
    found = shift_of(family, Point(1.6e6 / naive, 0.1 * rho), Point(1.6e6, 0.1))
    assert isinstance(found, Shift)
    return found


def test_the_worked_example_of_the_paper_exponent() -> None:
    assert multiplier(shifted(2, 1), PAPER_EXPONENT) == Interval(2, pytest.approx(2), pytest.approx(2))
    # the break-even loss at r = 2 and power 12.2 is 5.8 % more error
    found = multiplier(shifted(2, 1.0585), PAPER_EXPONENT, PAPER_ERROR)
    assert found.value == pytest.approx(1, abs=0.005)
    # 1.96 standard errors of the exponent to either side
    ends = [2 * 1.0585 ** (1 / (PAPER_EXPONENT + side * 1.96 * PAPER_ERROR)) for side in (1, -1)]
    assert (found.low, found.high) == (pytest.approx(ends[0], rel=0.02), pytest.approx(ends[1], rel=0.02))


def test_the_paper_exponents_standard_error_is_that_of_its_r2() -> None:
    assert pytest.approx(abs(PAPER_EXPONENT) * math.sqrt((1 / 0.606 - 1) / 108), abs=5e-5) == PAPER_ERROR


def test_distance_from_a_published_law() -> None:
    compute = np.array([1e7, 1e8, 1e9, 1e10, 1e11])
    law = least_squares(compute, 3 * compute**-0.15 * np.array([1.01, 0.99, 1, 0.99, 1.01]))
    shift = shifted(2, 1.0)
    found = distance(shift, 8e5, 0.1, law)
    assert found.value == pytest.approx((0.1 / 10**law.a) ** (1 / law.b) / 8e5)
    assert found.low < found.value < found.high


def test_life_cycle() -> None:
    whole = LifeCycle(once=100, each=2, inferences=50)
    assert (whole.total, whole.amortised) == (200, 4)
    assert whole.against(LifeCycle(0, 4, 50)) == "cheaper from 50 inferences on"
    assert whole.against(LifeCycle(300, 1, 50)) == "cheaper up to 200 inferences"
    assert whole.against(LifeCycle(100, 3, 50)) == "always cheaper"
    assert whole.against(LifeCycle(50, 2, 50)) == "never cheaper"
    assert whole.against(whole) == "the same"
