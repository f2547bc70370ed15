import os

import pytest

from efflab.foundation.errors import RequestError
from efflab.foundation.files import file_digest
from efflab.foundation.outside import altered, content_of, digest_of, opened, parsed_json, read_json, with_digest


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"a": 1e999}', "a is no finite number"),
        ('{"a": {"b": [1, -Infinity]}}', r"a.b\[1\] is no finite number"),
        ("[NaN]", r"\[0\] is no finite number"),
        ('{"a": ' + "9" * 400 + "}", "a is too large a number"),
        ('{"a": ' + "9" * 5000 + "}", "a is too large a number"),
        ('{"a": 1, "b": 2, "a": 3}', "the key 'a' stands twice"),
        ('{"a": ["\\ud800"]}', r"a\[0\] holds half a surrogate pair"),
        ('{"\\ud800": 1}', "holds half a surrogate pair"),
        ("[" * 61 + "]" * 61, "nested deeper than 60 levels"),
        ("[" * 100_000, "nested deeper than 60 levels"),
        (b"\xff", "not UTF-8 text"),
        ("", "Expecting value"),
        ("{} {}", "Extra data"),
    ],
)
def test_json_that_cannot_be_worked_with_is_refused_with_its_place(text, said):
    with pytest.raises(ValueError, match=said):
        parsed_json(text)


def test_other_json_is_read_as_it_is():
    text = '{"a": [1.5, -3, 1e300, 1000000000000000019884624838656, true, null, "\\ud83d\\ude00"], "b": {"a": ""}}'
    assert parsed_json(text) == {"a": [1.5, -3, 1e300, int(1e30), True, None, "😀"], "b": {"a": ""}}
    assert parsed_json("[" * 60 + "]" * 60)


def test_only_regular_files_of_a_stated_size_are_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "large").write_bytes(b"x" * 11)
    for name, said in [("pipe", "a named pipe"), ("zero", "a device"), ("large", "larger than 10 bytes")]:
        with pytest.raises(OSError, match=said):
            content_of(tmp_path / name, 10)
    with pytest.raises(IsADirectoryError):
        opened(tmp_path)
    for name in ("none", "a\0b"):
        with pytest.raises(FileNotFoundError):
            opened(tmp_path / name)
    assert content_of(tmp_path / "large", 11) == b"x" * 11


@pytest.mark.parametrize("read", [content_of, file_digest, lambda path: opened(path).read(5)])
def test_a_file_that_fails_while_it_is_read_is_named_too(read, tmp_path):
    path = tmp_path / "weights"
    path.symlink_to("/proc/self/mem")  # nothing is mapped at its begin
    with pytest.raises(OSError, match="rror") as caught:
        read(path)
    assert caught.value.filename == str(path)


def test_a_json_file_is_none_where_there_is_none_and_refused_where_it_is_no_mapping(tmp_path):
    assert read_json(tmp_path / "none.json") is None
    for content in ("[1]", '{"a": 1e999}'):
        (tmp_path / "f.json").write_text(content)
        with pytest.raises(RequestError, match=r"card.yaml:3: .*f.json"):
            read_json(tmp_path / "f.json", "card.yaml:3")


def test_a_digest_tells_altered_content_however_it_is_laid_out():
    content = {"b": 1.5, "a": [1, {"c": None}]}
    assert not altered(with_digest(content))
    assert not altered(dict(reversed(with_digest(content).items())))
    assert not altered(dict(content))  # written before there were digests
    assert altered({**with_digest(content), "b": 1.6})
    assert altered({**content, "sha256": digest_of(content)[::-1]})
