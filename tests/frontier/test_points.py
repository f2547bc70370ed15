import pytest

from efflab.errors import RequestError
from efflab.frontier.points import read_points


@pytest.fixture
def table(tmp_path):
    def write(text):
        path = tmp_path / "t.csv"
        path.write_text(text)
        return path

    return write


def test_rows_without_a_value_are_counted(table):
    points = read_points(
        table("model,macs,err,when\na,1e6,0.2,2015\nb,,0.1,2016\nc,2e6,,2016\nd,3e6,0.1,\n"), "macs", "err", "when"
    )
    assert points.names == ("a",)
    assert points.left_out == {f"no number in {name}": 1 for name in ("macs", "err", "when")}
    assert points.rows == 4


def test_scores_in_percent(table):
    points = read_points(table("macs,top1\n1,75\n2,80\n"), "macs", "top1", percent=True)
    assert points.error == pytest.approx([0.25, 0.2])
    assert points.names == ("line 2", "line 3")


def test_tables_of_the_authors_have_derived_columns_and_nested_headers(table):
    text = "name,year,flops,multiadds,fp_bp_ratio,network_operations,hardware_burden,(TOP 1 score)\nname,year,,,,,,\n"
    points = read_points(
        table(text + "A,2012,8,,3,1e17,,60\nB,2014,,3,3,,5e18,70\n"), "ops_forward_pass", "error", "year"
    )
    assert points.compute == pytest.approx([8, 6])
    assert points.error == pytest.approx([0.4, 0.3])
    assert points.rows == 2
    burden = read_points(
        table(text + "A,2012,8,,3,1e17,,60\nB,2014,,3,3,,5e18,70\n"), "consolidated_hardware_burden", "error"
    )
    assert burden.compute == pytest.approx([10 ** (2.7580 + 0.8935 * 17), 5e18])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("macs,err\n1,0.5\n-2,0.5\n", r"t.csv:3: macs must be above 0 \(found -2\)"),
        ("macs,err\n1,25\n", "t.csv:2: err gives an error of 25; .*--score"),
        ("macs,err\n1,0\n", "must be above 0 and below 1"),
        ("mac,err\n1,0.5\n", "no column 'macs'; did you mean 'mac'"),
        ("macs,err\n,\n", "no row has both"),
        ("", "the file is empty"),
    ],
)
def test_bad_tables_are_refused_in_words(table, text, words):
    with pytest.raises(RequestError, match=words):
        read_points(table(text), "macs", "err")
    with pytest.raises(RequestError, match="there is no such file"):
        read_points(table(text).with_name("none.csv"), "macs", "err")
