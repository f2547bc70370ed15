"""Tables and JSON lines of labelled texts: whatever can be written is read back, and padding fills what it must."""

import csv
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from efflab.contracts.padding import PaddedLengths, most_tokens, padded, padded_length
from efflab.contracts.text_files import TextColumns, read_texts
from efflab.foundation.errors import RequestError

PLAIN = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1).filter(lambda one: one.strip())
ROWS = st.lists(st.tuples(PLAIN, PLAIN), min_size=1, max_size=8)


def stripped(rows):
    return [(text.strip(), label.strip()) for text, label in rows]


@given(ROWS)
def test_csv_is_read_as_the_csv_module_wrote_it(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("label", "text"), *((label, text) for text, label in rows)])
    assert [(one.text, one.label) for one in read_texts(path, TextColumns())] == stripped(rows)


@given(ROWS)
def test_json_lines_are_read_as_they_were_written(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("jsonl") / "a.jsonl"
    path.write_text("\n".join(json.dumps({"t": text, "l": label}) for text, label in rows), encoding="utf-8")
    assert [(one.text, one.label) for one in read_texts(path, TextColumns(text="t", label="l"))] == stripped(rows)


def test_tab_separated_files_without_a_header_have_numbers_and_no_quotes(tmp_path):
    (tmp_path / "a.tsv").write_text('he said " no\t0\n\n"yes"\t1\n')
    found = read_texts(tmp_path / "a.tsv", TextColumns(text=0, label=1))
    assert found == [('he said " no', "0", 1), ('"yes"', "1", 3)]


def test_whole_numbers_and_truth_values_are_labels_of_json_lines(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "a", "label": 1}\n{"text": "b", "label": true}\n')
    assert [one.label for one in read_texts(tmp_path / "a.jsonl", TextColumns())] == ["1", "True"]
    (tmp_path / "a.jsonl").write_text('{"text": "a", "label": 1.5}\n')
    with pytest.raises(RequestError, match=r"a.jsonl:1: label must be a text or a whole number, not 1.5"):
        read_texts(tmp_path / "a.jsonl", TextColumns())


def test_a_mark_at_the_start_of_the_file_is_no_part_of_the_header(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbftext,label\na,b\n")
    assert read_texts(tmp_path / "a.csv", TextColumns()) == [("a", "b", 2)]


def test_other_files_are_refused_by_their_suffix(tmp_path):
    (tmp_path / "a.xlsx").write_bytes(b"PK")
    with pytest.raises(RequestError, match="suffix must say what it is"):
        read_texts(tmp_path / "a.xlsx", TextColumns())


@given(
    st.lists(st.integers(1, 40), min_size=1),
    st.sampled_from(["longest", PaddedLengths(fixed=40), PaddedLengths(buckets=[8, 40])]),
)
def test_padding_holds_every_text_and_fills_its_end(lengths, policy):
    assert most_tokens(policy, 512) >= max(lengths)
    length = padded_length(policy, lengths)
    found = padded([np.arange(1, one + 1) for one in lengths], length, 0)
    assert found.shape == (len(lengths), length)
    assert [int((row > 0).sum()) for row in found] == lengths
    assert all((row[:one] == np.arange(1, one + 1)).all() for row, one in zip(found, lengths, strict=True))
    assert length == max(lengths) if policy == "longest" else length in (8, 40)
