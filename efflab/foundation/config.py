"""Reads YAML with line numbers and checks it against a schema, reporting every problem of a file at once."""

from __future__ import annotations

import errno
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, ClassVar, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from yaml.reader import ReaderError

from efflab.foundation.errors import Problem, RequestError, nearest
from efflab.foundation.outside import spelled, text_of, why
from efflab.foundation.wording import KINDS, NAME, one_line, sentence, shown
from efflab.foundation.yaml_values import odd

MOST_BYTES = 1_000_000
MOST_NODES = 20_000
MOST_DEPTH = 40
YAML_TAG = "tag:yaml.org,2002:"
PLAIN_TAGS = {f"{YAML_TAG}{kind}" for kind in ("bool", "float", "int", "null", "str", "timestamp")}
PLAIN_COLLECTIONS = {f"{YAML_TAG}{kind}" for kind in ("map", "seq")}

Key = tuple[str | int, ...]
Model = TypeVar("Model", bound=BaseModel)
Name = Annotated[str, Field(pattern=NAME, max_length=100)]  # becomes the name of a folder
Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Settings(BaseModel):
    """Base of all that users write: unknown keys are refused, values keep their type, nothing changes afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
    misplaced: ClassVar[Mapping[str, str]] = {}  # keys that belong elsewhere -> where
    short_form: ClassVar[str] = ""  # a section of these settings whose own keys may also stand beside it


@dataclass(frozen=True)
class Document:
    """A YAML file as plain data, with the line of every key."""

    path: Path
    data: Any
    lines: Mapping[Key, int] = field(repr=False)
    text: str = field(repr=False, default="")

    def where(self, key: Key) -> str:
        """Return `file:line: key`, using the nearest enclosing key that stands in the file."""
        return _where(self.path, self.lines, key)


def _where(path: Path, lines: Mapping[Key, int], key: Key) -> str:
    known = key
    while known and known not in lines:
        known = known[:-1]
    place = f"{path}:{lines.get(known, 1)}"
    return f"{place}: {spelled(key)}" if key else place


def read_yaml(path: Path) -> Document:
    """Read one YAML mapping; raise RequestError for a missing, empty, huge, ambiguous or malformed file."""
    try:
        text = text_of(path, MOST_BYTES)
    except (OSError, UnicodeDecodeError) as error:
        large = isinstance(error, OSError) and error.errno == errno.EFBIG
        what = f"{why(error)}{'; this is no recipe or card' if large else ''}"
        raise RequestError(Problem(str(path), what)) from error
    return parse_yaml(text, path)


def parse_yaml(text: str, path: Path) -> Document:
    """Parse YAML text that came from `path`; raise RequestError as `read_yaml` does."""
    try:
        _check_depth(text, path)
        root = yaml.compose(text, Loader=Loader)
    except (yaml.YAMLError, ValueError) as error:
        raise RequestError(_syntax_problem(error, path, text)) from error
    if root is None:
        raise RequestError(Problem(f"{path}:1", "the file is empty"))
    reader = _Reader(path)
    data = reader.value(root, ())
    if not isinstance(root, yaml.MappingNode):
        reader.problems.append(Problem(f"{path}:1", "must be a mapping of keys to values"))
    if reader.problems:
        raise RequestError(reader.problems)
    return Document(path, data, reader.lines, text)


def _check_depth(text: str, path: Path) -> None:
    # composing recurses once a level and would overflow the stack of the C library
    depth = 0
    for event in yaml.parse(text, Loader=Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MOST_DEPTH:
            line = event.start_mark.line + 1 if event.start_mark else 1
            raise RequestError(Problem(f"{path}:{line}", f"nested deeper than {MOST_DEPTH} levels"))


def _syntax_problem(error: Exception, path: Path, text: str) -> Problem:
    if isinstance(error, ReaderError):
        line = text.count("\n", 0, text.find(chr(error.character))) + 1
        what = f"the character U+{error.character:04X} may not stand in YAML; take it out"
        return Problem(f"{path}:{line}", what)
    mark = getattr(error, "problem_mark", None)
    line = mark.line + 1 if mark else 1
    rows = text.splitlines()
    if mark and line <= len(rows) and "\t" in rows[line - 1]:
        return Problem(f"{path}:{line}", "a tab is used for indentation; YAML takes spaces only")
    return Problem(f"{path}:{line}", f"not YAML: {getattr(error, 'problem', None) or one_line(error)}")


class _Reader:
    """Turns composed nodes into data, noting lines, duplicate keys and anchors that would explode."""

    def __init__(self, path: Path):
        self.path, self.problems, self.count = path, [], 0  # type: Path, list[Problem], int
        self.lines: dict[Key, int] = {}
        self.constructor = Loader("")

    def value(self, node: yaml.Node, key: Key) -> Any:
        self.count += 1
        line = node.start_mark.line + 1
        self.lines.setdefault(key, line)
        if self.count > MOST_NODES or len(key) > MOST_DEPTH:
            raise RequestError(
                Problem(f"{self.path}:{line}", "expands to too much (anchors that repeat anchors, or too deep)")
            )
        if not isinstance(node, yaml.ScalarNode) and node.tag not in PLAIN_COLLECTIONS:
            self.problems.append(Problem(_where(self.path, self.lines, key), _odd_tag(node)))
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, key)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*key, index)) for index, item in enumerate(node.value)]
        try:
            value = self.constructor.construct_object(node, deep=True)
        except (
            yaml.YAMLError,
            ValueError,
            LookupError,
            AttributeError,
            TypeError,
            OverflowError,
        ):  # of a tag's own words
            tag = node.tag.removeprefix(YAML_TAG)
            what = f"{shown(node.value)} is no {tag}; put it in quotes if it is text"
            if tag == "int" and len(node.value) > sys.get_int_max_str_digits():
                what = f"a number of {len(node.value):,} digits is too long"
            elif node.tag not in PLAIN_TAGS:
                what = _odd_tag(node)
            value = None
        else:
            what = odd(value, node.value)
        if what:
            self.problems.append(Problem(_where(self.path, self.lines, key), what))
        return value

    def _mapping(self, node: yaml.MappingNode, key: Key) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            name = str(key_node.value)
            if not isinstance(key_node, yaml.ScalarNode) or name == "<<":
                self.problems.append(Problem(f"{self.path}:{line}", "keys must be plain words (no merge keys)"))
                continue
            if name in result:
                self.problems.append(Problem(f"{self.path}:{line}", f"{name!r} is defined twice; rename one"))
            if wrong := odd(name, name):
                self.problems.append(Problem(f"{self.path}:{line}", wrong))
                continue
            self.lines[(*key, name)] = line
            result[name] = self.value(value_node, (*key, name))
        return result


def _odd_tag(node: yaml.Node) -> str:
    return f"the tag {node.tag.replace(YAML_TAG, '!!')} is not allowed; write a plain value"


def check(schema: type[Model], document: Document, key: Key = (), data: Any = None) -> Model:
    """Check `data` (default: the whole document), which stands under `key`; raise RequestError with all problems."""
    found = document.data if data is None else data
    try:
        return schema.model_validate(found)
    except ValidationError as error:
        raise RequestError(problems_of(error, schema, document, key, found)) from error


def problems_of(
    error: ValidationError, schema: type[BaseModel], document: Document, key: Key, data: Any
) -> list[Problem]:
    """Translate pydantic's errors on `data` into problems with file, line, key and nearest right name."""
    found: dict[Key, list[str]] = {}
    fitting: dict[Key, list[str]] = {}
    for item in error.errors():
        location = _keys_of(_as_written(item["loc"], schema, data), data, item["type"])
        if item["type"] == "given_twice":
            location = (*location, item["ctx"]["key"])
        if item["type"] == "extra_forbidden":
            what = _unknown(str(location[-1]), _models_at(schema, location[:-1]))
        else:
            what = sentence(item["type"], item["input"], item.get("ctx", {}), item["msg"])
        found.setdefault(location, []).append(what)
        if item["type"] not in KINDS:
            fitting.setdefault(location, []).append(what)
    # of the alternatives of a union, those of the value's kind, and those that got further into it, say what its author meant
    outer = {location[:depth] for location in found for depth in range(len(location))}
    return [
        Problem(document.where((*key, *location)), _either(fitting.get(location, whats)))
        for location, whats in found.items()
        if location not in outer
    ]


def _as_written(location: tuple[str | int, ...], schema: type[BaseModel], data: Any) -> tuple[str | int, ...]:
    """Return pydantic's location of what is wrong, without the section whose key stands beside it."""
    if len(location) < 2 or location[0] != getattr(schema, "short_form", "") or not isinstance(data, dict):
        return location
    section, key = location[:2]
    return location[1:] if key in data and key not in data.get(section, {}) else location


def _either(whats: list[str]) -> str:
    """Join what the alternatives of a union want: `must be text or a mapping (found 5)`."""
    wanted = list(dict.fromkeys(whats))
    if len(wanted) == 1:
        return wanted[0]
    end = next((f" (found {one.partition(' (found ')[2]}" for one in wanted if " (found " in one), "")
    kinds = [re.sub(r"^must be |^unknown value .* known: |[;(].*", "", one).strip() for one in wanted]
    return f"must be {' or '.join(kinds)}{end}"


def _keys_of(location: tuple[str | int, ...], data: Any, kind: str) -> Key:
    """Return the part of pydantic's location that are keys of the file, without the tags of unions and "[key]" marks."""
    keys: list[str | int] = []
    for part in location:
        here = len(data) > part if isinstance(data, list) and isinstance(part, int) else False
        if here or (isinstance(data, dict) and part in data):
            keys.append(part)
            data = data[part]
    return (*keys, location[-1]) if kind == "missing" else tuple(keys)


def _unknown(name: str, models: list[type[BaseModel]]) -> str:
    known = [key for model in models for key in _keys_to_write(model)]
    hints = [model.misplaced[name] for model in models if issubclass(model, Settings) and name in model.misplaced]
    return f"unknown key {name!r}; {hints[0] if hints else nearest(name, known)}"


def _keys_to_write(model: type[BaseModel]) -> list[str]:
    own = [field.alias or name for name, field in model.model_fields.items()]
    beside = _models_at(model, (getattr(model, "short_form", ""),))
    return own + [key for section in beside for key in section.model_fields]


def _models_at(schema: Any, location: Key) -> list[type[BaseModel]]:
    """Return the schemas of which one describes what stands at `location`."""
    inside = [schema]
    for part in location:
        inside = [deeper for one in inside for deeper in _inside(one, part)]
    return [model for one in inside for model in _alternatives(one) if hasattr(model, "model_fields")]


def _alternatives(annotation: Any) -> list[Any]:
    if get_origin(annotation) is Annotated:
        return _alternatives(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return [inner for one in get_args(annotation) for inner in _alternatives(one)]
    return [annotation]


def _inside(annotation: Any, part: str | int) -> list[Any]:
    found = []
    for one in _alternatives(annotation):
        if hasattr(one, "model_fields"):
            found += [field.annotation for name, field in one.model_fields.items() if part in (name, field.alias)]
        elif get_origin(one) in (list, dict):
            found.append(get_args(one)[-1])
    return found


def collect(problems: list[Problem], document: Document, make_it: Callable[[], Any], key: Key = ()) -> Any:
    """Return what `make_it` gives, or None after adding its problems, placed under `key`, to `problems`."""
    try:
        return make_it()
    except RequestError as error:
        problems += error.at(document.where(key)).problems
        return None
