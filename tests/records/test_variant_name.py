import pytest
from hypothesis import given
from hypothesis import strategies as st

from efflab.records.variant_name import VariantName, variant_name


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("int8", ("int8", "", "", "")),
        ("prune[ratio=0.5]", ("prune", "ratio=0.5", "", "")),
        ("prune[blocks=[1, 2],ratio=0.5]~random@net-w8", ("prune", "blocks=[1, 2],ratio=0.5", "random", "net-w8")),
        ("prune~random", ("prune", "", "random", "")),
        ("prune[ratio=0.5]~trained-on@net", ("prune", "ratio=0.5", "trained-on", "net")),
        ("half@net-w8", ("half", "", "", "net-w8")),
        ("net-w8 (again)", ("net-w8 (again)", "", "", "")),
    ],
)
def test_names_are_taken_apart(text, parts):
    assert variant_name(text) == parts
    assert str(variant_name(text)) == text


def test_a_control_names_its_claim_and_a_variant_itself_on_any_baseline():
    name = variant_name("prune[ratio=0.5]~random@net-w8")
    assert name.claim == "prune[ratio=0.5]@net-w8"
    assert name.on_any_baseline == "prune[ratio=0.5]~random"


entries = st.text(st.characters(exclude_characters="[]~@"), min_size=1, max_size=5)


@given(
    entries,
    st.text(st.characters(exclude_characters="@"), max_size=8),
    st.sampled_from(["", "random", "trained-on"]),
    entries | st.just(""),
)
def test_what_is_put_together_is_taken_apart_again(entry, sweep, control, baseline):
    name = VariantName(entry, sweep, control, baseline)
    assert variant_name(str(name)) == name
