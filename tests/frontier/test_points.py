from decimal import Decimal

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from efflab.foundation.errors import RequestError
from efflab.frontier.points import read_points


@pytest.fixture
def table(tmp_path):
    def write(text):
        path = tmp_path / "t.csv"
        path.write_text(text, encoding="utf-8")
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


def read(table, cells, header="macs", errors=None, delimiter=",", **how):
    """Write a column of cells beside one of errors, all quoted, and read it."""
    errors = errors or [f"0.{9 - i % 8}" for i in range(len(cells))]
    rows = [f'"{cell}"{delimiter}"{error}"' for cell, error in zip(cells, errors, strict=True)]
    return read_points(table("\n".join([f"{header}{delimiter}err", *rows]) + "\n"), header, "err", **how)


def write(table, header, *rows):
    return table("\n".join([header, *rows]) + "\n")


@pytest.mark.parametrize(
    ("cells", "header", "numbers"),
    [
        (["1,5", "12,5", "1,234"], "macs", [1.5, 12.5, 1.234]),
        (["1,234.5", "1,234", "7"], "macs", [1234.5, 1234, 7]),
        (["1,234,567", "1,234"], "macs", [1234567, 1234]),
        (["1.234,5", "1.234"], "macs", [1234.5, 1234]),
        (["1.234.567", "1.234"], "macs", [1234567, 1234]),
        (["1 234", "1\u00a0234 567", "950"], "macs", [1234, 1234567, 950]),
        (["1 234,5", "1\u202f234,567", "1\u2009234"], "macs", [1234.5, 1234.567, 1234]),
        (["1'234", "1’234’567.5", "1_234"], "macs", [1234, 1234567.5, 1234]),
        (["1.234", "4.1e9", "+.5", "5.", "1E-3"], "macs", [1.234, 4.1e9, 0.5, 5, 1e-3]),
        (["4,1e9", "5,25e-3"], "macs", [4.1e9, 5.25e-3]),
        (["3.5 GFLOPs", "900 MFLOPS", "1.2TFLOP"], "flops", [3.5e9, 9e8, 1.2e12]),
        (["4.1G", "900M", "12 K", "7B", "1.5T"], "macs", [4.1e9, 9e8, 12e3, 7e9, 1.5e12]),
        (["4.12 GMac", "557.22 KMac"], "macs", [4.12e9, 557220]),
        (["4.1e9 MACs", "2.05 MACs"], "macs", [4.1e9, 2.05]),
        (["1,5 G", "2,25 G"], "macs", [1.5e9, 2.25e9]),
        (["3.5 million", "1.2 billion"], "compute", [3.5e6, 1.2e9]),
        (["1.5G", "3 G"], "gmacs", [1.5, 3]),
        (["1.5M", "3M"], "Params (M)", [1.5, 3]),
        (["1.5G", "3G"], "MACs (10^9)", [1.5, 3]),
    ],
)
def test_numbers_as_people_write_them(table, cells, header, numbers):
    assert read(table, cells, header).compute.tolist() == numbers


@pytest.mark.parametrize(
    ("cells", "header", "words"),
    [
        (
            ["1,234", "2,345"],
            "macs",
            r"t.csv:2: macs is '1,234', which can mean 1234 or 1.234; .* \(1 more row like this\)",
        ),
        (["1,234", "5.6"], "macs", "--decimal point for 1234, --decimal comma for 1.234"),
        (["-1,234e3 G", "-5,678e3 G"], "macs", "can mean -1234e3 G or -1.234e3 G"),
        (["1,5", "1.234"], "macs", "t.csv:3: macs is '1.234', which can mean 1234 or 1.234"),
        (["1,5", "1.5"], "macs", "t.csv:3: macs is '1.5', but '1,5' in line 2: one has a decimal comma"),
        (["1,234.5", "1.234,5"], "macs", "t.csv:3: macs is '1.234,5', but '1,234.5' in line 2"),
        (["1.5G", "3"], "macs", "t.csv:3: macs is '3', but '1.5G' in line 2: only one has a unit"),
        (["1.5G", "3 GFLOPs"], "macs", "t.csv:3: macs is '3 GFLOPs', but other rows count without a name"),
        (["1.5 GMACs", "3 GFLOPs"], "x", "t.csv:3: x is '3 GFLOPs', but other rows count mac"),
        (["3 GFLOPs", "3 GFLOPs"], "macs", "but the header 'macs' says macs"),
        (["1.5M", "3G"], "gmacs", r"t.csv:2: gmacs is '1.5M', but the header 'gmacs' says 10\^9"),
        (["512 B", "1024 B"], "memory_bytes", "whose unit 'B' is not clear"),
        (["569 MAdds", "300 MAdds"], "x", "unit 'MAdds' is not clear"),
        (["12 m", "13 m"], "x", "unit 'm' is not clear"),
        (["5 days", "6 days"], "x", "unit 'days' is not clear"),
        (["5 MB", "6 MB"], "x", "unit 'MB' is not clear"),
        (["5%", "6%"], "x", "unit '%' is not clear"),
        (["1,2,3", "4"], "x", "x is '1,2,3', which is not clearly one number"),
        (["12,34,567", "4"], "x", "not clearly one number"),
        (["1  234", "4"], "x", "not clearly one number"),
        (["4.1×10^9", "4"], "x", "x is '4.1×10.9', which is not clearly one number"),
        (["~3.5", "4"], "x", "not clearly one number"),
        (["3-5", "4"], "x", "not clearly one number"),
        (["1.5 2.5", "4"], "x", "not clearly one number"),
        (["0x1A", "4"], "x", "x is "),
        (["5²", "4"], "x", "x is '5²'"),
        (["inf", "4"], "x", "x is 'inf', which is not finite"),
        (["1e999", "4"], "x", "x is '1e999', which is too large"),
        (["1" * 100, "4"], "x", "not clearly one number"),
        (["-1.5G", "4G"], "x", r"t.csv:2: x must be above 0 \(found -1.5e\+09 in '-1.5G'\)"),
        (["0", "4"], "x", r"t.csv:2: x must be above 0 \(found 0\)"),
    ],
)
def test_cells_that_can_mean_two_things_are_refused(table, cells, header, words):
    with pytest.raises(RequestError, match=words):
        read(table, cells, header)


@pytest.mark.parametrize(
    ("errors", "header", "percent", "said"),
    [
        (["0.5%", "0.98 %"], "error", False, [0.005, 0.0098]),
        (["0,5\u00a0%", "12,5%"], "error", False, [0.005, 0.125]),
        (["25", "0.5"], "error (%)", False, [0.25, 0.005]),
        (["25", "30"], "top1_err_pct", False, [0.25, 0.3]),
        (["75%", "80%"], "acc", True, [0.25, 0.2]),
        (["75,5", "80,25"], "acc", True, [0.245, 0.1975]),
        (["0.5%", "80%"], "acc", True, [0.995, 0.2]),
        (["0.5%", "0.5"], "error", False, "t.csv:3: error is '0.5', but '0.5%' in line 2: only one has a percent sign"),
        (["0.5", "0.5%"], "error", False, "t.csv:3: error is '0.5%', but '0.5' in line 2"),
        (["75%", "80"], "acc", True, "only one has a percent sign"),
        (["25", "30"], "error", False, "for errors in percent write 25% in every row .1 more row like this"),
        (["150%", "30%"], "error", False, "gives an error of 1.5 in '150%'"),
        (["0%", "30%"], "error", False, "gives an error of 0 in '0%'"),
        (["-0.1", "0.3"], "error", False, "gives an error of -0.1"),
        (["0.5 pp", "0.3 pp"], "error", False, "a column of errors takes only the unit %"),
        (["0.75", "0.8"], "acc", True, "acc is '0.75', but scores are in percent .* write 75, or percent signs"),
        (["0.75", "0.8"], "acc (%)", True, "looks like a fraction"),
        (["0.75", "80"], "top1", True, "looks like a fraction"),
        (["0.75", "0.8"], "accuracy", False, "holds scores, not errors; give --score"),
        (["25", "30"], "top1_err", True, "holds errors, not scores; give --error"),
    ],
)
def test_percent_is_read_in_all_rows_or_refused(table, errors, header, percent, said):
    path = write(table, f"macs,{header}", *(f'{i + 1},"{error}"' for i, error in enumerate(errors)))
    if isinstance(said, str):
        with pytest.raises(RequestError, match=said):
            read_points(path, "macs", header, percent=percent)
        return
    points = read_points(path, "macs", header, percent=percent)
    assert points.error == pytest.approx(said, rel=1e-12)
    assert len(points.notes) == 1


def test_notes_say_how_a_column_was_read(table):
    assert read(table, ["1.5", "2"]).notes == ()
    points = read(table, ["1.234,5 M", "2 M"], errors=["0,5 %", "1 %"])
    assert points.notes == (
        "macs has units and decimal commas and grouped thousands: '1.234,5 M' is read as 1234500000",
        "err has percent signs and decimal commas: '0,5 %' is read as 0.005",
    )


def test_the_caller_says_what_a_comma_means(table):
    assert read(table, ["1,234", "5.6"], decimal="point").compute.tolist() == [1234, 5.6]
    assert read(table, ["1,234", "1,500"], decimal="comma").compute.tolist() == [1.234, 1.5]
    assert read(table, ["1.234", "1.500"], decimal="comma").compute.tolist() == [1234, 1500]
    with pytest.raises(RequestError, match="one has a decimal comma"):
        read(table, ["1,234", "5.6"], decimal="comma")


def test_separators_of_cells_and_what_they_say_of_points(table):
    for delimiter in ";\t,":
        points = read_points(
            write(table, delimiter.join("abc"), delimiter.join(["1.5", "0.5", "x"]), delimiter.join(["2", "0.4", "y"])),
            "a",
            "b",
        )
        assert points.compute.tolist() == [1.5, 2]
    assert read_points(write(table, "a;b", "1,5;0,5", "2;0,4"), "a", "b").error.tolist() == [0.5, 0.4]
    assert read_points(write(table, "\ufeffa, b", '1.234, "0.5"'), "a", "b").compute.tolist() == [1.234]
    assert read_points(write(table, "a;b", "1.234;0.5", "2.345;0.4"), "a", "b").compute.tolist() == [1.234, 2.345]
    for rows in (["1.234;0,5"], ["1.234;5%"]):  # a table of decimal commas may group thousands by points
        with pytest.raises(RequestError, match="a is '1.234', which can mean 1234 or 1.234"):
            read_points(write(table, "a;b", *rows), "a", "b")
    with pytest.raises(RequestError, match="t.csv:2: more cells than the header's 2; quote a cell"):
        read_points(write(table, "a,b", "1,5,0.5"), "a", "b")


def test_each_problem_is_said_once(table):
    with pytest.raises(RequestError) as caught:
        read(table, ["1,234", "2,345", "x1"], errors=["0.5%", "0.5", "0.5"], year="err")
    assert [str(problem).split("t.csv:")[1].split(",")[0] for problem in caught.value.problems] == [
        "4: macs is 'x1'",
        "2: macs is '1",
        "3: err is '0.5'",
        "2: err is '0.5%'",
    ]


def test_words_without_digits_are_left_out(table):
    points = read(table, ["1.5", "n/a", "-", "nan", "unknown", ""])
    assert (points.compute.tolist(), points.left_out) == ([1.5], {"no number in macs": 5})


def test_derived_columns_refuse_what_is_no_plain_number(table):
    header = "name,year,flops,multiadds,fp_bp_ratio,network_operations,hardware_burden,(TOP 1 score)"
    path = write(table, header, 'A,2012,,"4,1",3,1.2E,,60', "B,2013,4,,3,,5,0.7")
    for column, words in (
        ("ops_forward_pass", "ops_forward_pass is '2 x 4,1'"),
        ("consolidated_hardware_burden", ":2: network_operations is '1.2E'"),
        ("fp_bp_ratio", "error is '1 - 0.7 / 100'"),
    ):
        with pytest.raises(RequestError, match=words):
            read_points(path, column, "error")


UNITS = {"": 0, " K": 3, "M": 6, "\u00a0G": 9, "B": 9, " TFLOPs": 12, " MACs": 0}


@settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    numbers=st.lists(st.tuples(st.integers(1, 10**9), st.integers(0, 4)), min_size=1, max_size=6),
    mark=st.sampled_from(".,"),
    group=st.sampled_from(["", ",", ".", " ", "\u00a0", "\u202f", "'", "_"]),
    unit=st.sampled_from(sorted(UNITS)),
    delimiter=st.sampled_from(",;\t"),
    percent=st.booleans(),
)
def test_reading_gives_back_what_was_written(table, numbers, mark, group, unit, delimiter, percent):
    """Each number in a notation of people is read exactly, or the table is refused."""
    group = "" if group == mark else group

    def notation(digits, places):
        text = f"{Decimal(digits).scaleb(-places):,.{places}f}"
        return text.replace(",", "g").replace(".", mark).replace("g", group)

    numbers = [*numbers, (123456789, 1)]  # 12 345 678.9 shows which sign is which
    errors = [f"{notation(1 + digits % 999, 1)}%" if percent else f"0{mark}5" for digits, _ in numbers]
    cells = [f"{notation(*number)}{unit}" for number in numbers]
    points = read(table, cells, header="x", errors=errors, delimiter=delimiter)
    assert points.compute.tolist() == [float(Decimal(d).scaleb(UNITS[unit] - places)) for d, places in numbers]
    if percent:
        assert points.error.tolist() == [float(Decimal(1 + d % 999).scaleb(-3)) for d, _ in numbers]


@settings(
    max_examples=200, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(cells=st.lists(st.text("0123456789.,' _-+eGM%n\u00a0∞²", max_size=8), min_size=1, max_size=4))
def test_any_cell_is_read_or_refused(table, cells):
    try:
        points = read(table, cells)
    except RequestError as refused:
        assert refused.problems
    else:
        assert np.isfinite(points.compute).all()
        assert (points.compute > 0).all()
        assert len(points.compute) + sum(points.left_out.values()) == len(cells)
