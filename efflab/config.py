"""Reads YAML with line numbers and checks it against a schema, reporting every problem of a file at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from efflab.errors import Problem, RequestError, nearest

MOST_BYTES = 1_000_000
MOST_NODES = 20_000
MOST_DEPTH = 40

Key = tuple[str | int, ...]
Model = TypeVar("Model", bound=BaseModel)
Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Settings(BaseModel):
    """Base of all that users write: unknown keys are refused, values keep their type, nothing changes afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


@dataclass(frozen=True)
class Document:
    """A YAML file as plain data, with the line of every key."""

    path: Path
    data: Any
    lines: Mapping[Key, int] = field(repr=False)

    def where(self, key: Key) -> str:
        """Return `file:line: key`, using the nearest enclosing key that stands in the file."""
        known = key
        while known and known not in self.lines:
            known = known[:-1]
        spelled = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in key).lstrip(".")
        place = f"{self.path}:{self.lines.get(known, 1)}"
        return f"{place}: {spelled}" if spelled else place


def read_yaml(path: Path) -> Document:
    """Read one YAML mapping; raise RequestError for a missing, empty, huge, ambiguous or malformed file."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise RequestError(Problem(str(path), f"larger than {MOST_BYTES:,} bytes; this is no recipe or card"))
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise RequestError(Problem(str(path), f"not UTF-8 text (byte {error.start})")) from error
    except OSError as error:
        raise RequestError(Problem(str(path), (error.strerror or str(error)).lower())) from error
    return parse_yaml(text, path)


def parse_yaml(text: str, path: Path) -> Document:
    """Parse YAML text that came from `path`; raise RequestError as `read_yaml` does."""
    try:
        root = yaml.compose(text, Loader=Loader)
    except (yaml.YAMLError, ValueError) as error:
        raise RequestError(_syntax_problem(error, path, text)) from error
    except RecursionError as error:
        raise RequestError(Problem(str(path), f"nested deeper than {MOST_DEPTH} levels")) from error
    if root is None:
        raise RequestError(Problem(f"{path}:1", "the file is empty"))
    reader = _Reader(path)
    data = reader.value(root, ())
    if not isinstance(root, yaml.MappingNode):
        reader.problems.append(Problem(f"{path}:1", "must be a mapping of keys to values"))
    if reader.problems:
        raise RequestError(reader.problems)
    return Document(path, data, reader.lines)


def _syntax_problem(error: Exception, path: Path, text: str) -> Problem:
    mark = getattr(error, "problem_mark", None)
    line = mark.line + 1 if mark else 1
    rows = text.splitlines()
    if mark and line <= len(rows) and "\t" in rows[line - 1]:
        return Problem(f"{path}:{line}", "a tab is used for indentation; YAML takes spaces only")
    return Problem(f"{path}:{line}", f"not YAML: {getattr(error, 'problem', None) or error}")


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
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, key)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*key, index)) for index, item in enumerate(node.value)]
        try:
            return self.constructor.construct_object(node, deep=True)
        except (yaml.YAMLError, ValueError) as error:
            self.problems.append(
                Problem(f"{self.path}:{line}", f"not YAML: {getattr(error, 'problem', None) or error}")
            )
            return None

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
            self.lines[(*key, name)] = line
            result[name] = self.value(value_node, (*key, name))
        return result


def check(schema: type[Model], document: Document, key: Key = (), data: Any = None) -> Model:
    """Check `data` (default: the whole document), which stands under `key`; raise RequestError with all problems."""
    try:
        return schema.model_validate(document.data if data is None else data)
    except ValidationError as error:
        raise RequestError(problems_of(error, schema, document, key)) from error


def problems_of(error: ValidationError, schema: type[BaseModel], document: Document, key: Key = ()) -> list[Problem]:
    """Translate pydantic's errors into problems with file, line, key and nearest right name."""
    problems = []
    for item in error.errors():
        # pydantic adds tags of unions and "[key]" marks to a location; they are no keys of the file
        location = tuple(
            part
            for part in item["loc"]
            if isinstance(part, int)
            or (*key, part) in document.lines
            or part == item["loc"][-1]
            or not str(part).startswith(("function-", "["))
        )
        if item["type"] == "extra_forbidden":
            known = _fields_at(schema, item["loc"][:-1])
            what = f"unknown key {item['loc'][-1]!r}; {nearest(str(item['loc'][-1]), known)}"
        elif item["type"] == "missing":
            what = "is missing"
        else:
            value = repr(item["input"])
            shown = value if len(value) < 60 else value[:57] + "..."
            what = f"{item['msg'].removeprefix('Value error, ')} (found {shown})"
        problems.append(Problem(document.where((*key, *location)), what))
    return problems


def _fields_at(schema: Any, location: tuple[str | int, ...]) -> list[str]:
    for part in location:
        fields = getattr(schema, "model_fields", {})
        if part in fields:
            schema = fields[part].annotation
        arguments = [schema, *getattr(schema, "__args__", ())]
        schema = next((one for one in reversed(arguments) if hasattr(one, "model_fields")), schema)
    return list(getattr(schema, "model_fields", {}))


def collect(problems: list[Problem], document: Document, make_it: Callable[[], Any], key: Key = ()) -> Any:
    """Return what `make_it` gives, or None after adding its problems, placed under `key`, to `problems`."""
    try:
        return make_it()
    except RequestError as error:
        problems += [one if one.where else Problem(document.where(key), one.what) for one in error.problems]
        return None
