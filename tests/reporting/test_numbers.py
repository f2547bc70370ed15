import pytest
from hypothesis import given
from hypothesis import strategies as st

from efflab.reporting.numbers import decimals, fixed, points_text, ratio_text


@pytest.mark.parametrize(
    ("low", "high", "places"), [(2.25, 2.38, 2), (1.2, 3.4, 0), (1.1, 1.9, 1), (1, 1, 2), (1, 1.00001, 3)]
)
def test_digits_as_the_interval_supports(low: float, high: float, places: int) -> None:
    assert decimals(low, high) == places


@pytest.mark.parametrize(
    ("interval", "text"),
    [
        ((1.027, 1.01, 1.32), "1.03x [1.01, 1.32]"),
        ((1.041, 0.97, 1.32), "1.0x [1.0, 1.3]"),
        ((0.9, 0.7, 0.996), "0.900x [0.700, 0.996]"),
        ((2.02, 1.09, 4.68), "2.0x [1.1, 4.7]"),
        ((40, 20, 2000), "40.0x [20.0, no upper limit]"),
    ],
)
def test_an_interval_that_excludes_1_is_seen_to(interval: tuple[float, float, float], text: str) -> None:
    assert ratio_text(*interval) == text


@pytest.mark.parametrize(
    ("interval", "margin", "text"),
    [
        ((-0.47, -1.04, -0.027), 0.88, "-0.47 [-1.04, -0.03]"),
        ((-0.46, -1.13, 0.007), 0.88, "-0.5 [-1.1, 0.0]"),
        ((0.0, 0.0, 0.0), 0.88, "0.00 [0.00, 0.00]"),
        ((-0.01, -0.12, 0.13), None, "0.0 [-0.1, +0.1]"),
        ((-0.3, -0.87, 0.3), 0.885, "-0.30 [-0.87, +0.30]"),
    ],
)
def test_points_have_no_negative_zero(interval: tuple[float, float, float], margin: float | None, text: str) -> None:
    assert points_text(*interval, margin) == text


@given(st.floats(0.01, 50), st.floats(0, 2), st.floats(0, 2))
def test_the_sides_shown_are_the_sides_there_are(value: float, below: float, above: float) -> None:
    low, high = max(value - below, 0), value + above
    shown_low, shown_high = (float(end) for end in ratio_text(value, low, high).split("[")[1].rstrip("]").split(","))
    assert shown_low > 1 or not low > 1 + 1e-5
    assert shown_high < 1 or not high < 1 - 1e-5


def test_what_rounds_to_zero_has_no_sign() -> None:
    assert (fixed(-0.04, 1, "+"), fixed(0.04, 1, "+"), fixed(-0.06, 1, "+")) == ("0.0", "0.0", "-0.1")
