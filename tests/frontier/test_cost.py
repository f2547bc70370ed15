import pytest
from hypothesis import given
from hypothesis import strategies as st

from efflab.frontier.cost import break_even


def test_break_even_by_hand() -> None:
    # 90 epochs of 1.28e6 images at 3 x 2 GMACs, saving 2.1 GMACs an image
    paid = break_even(90 * 1.28e6 * 6e9, 4.1e9, 2.0e9)
    assert paid.inferences == pytest.approx(3.29e8, rel=0.01)
    assert paid.words == "after 3.29e+08 inferences"


def test_words_when_it_never_pays() -> None:
    assert break_even(1e12, 2e9, 2e9).words == "never: an inference takes as many MACs as before"
    assert break_even(1e12, 2.0, 3.0, "seconds").words == "never: an inference takes more seconds than before"
    assert break_even(0, 2e9, 1e9).words == "at once: nothing was spent"


@given(st.floats(1, 1e18), st.floats(1, 1e12), st.floats(0.01, 0.99))
def test_both_sides_cost_the_same_at_break_even(spent: float, before: float, share: float) -> None:
    n = break_even(spent, before, before * share).inferences
    assert n is not None
    assert spent + n * before * share == pytest.approx(n * before, rel=1e-6)
