"""Show what a technique or a card is.

    efflab show technique prune_channels     what it does and when it helps, its settings, and what it gained so far
    efflab show card digits-resnet-w8        its task, its weights, and what its model takes and gives

The first word may be left out. Gains are of the rows whose last telling step is the technique, in the studies of the store
and of `reports/`: each with its interval and its verdict, beside the dense family. Steps that only prepare or repair (export,
fine-tuning) do not count as telling ones.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from efflab.comparison.row import Row

HELP = "what a technique is and what it gained in the studies at hand; what a card's model takes and gives"
KINDS = ("technique", "card")
MOST_ROWS = 12


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `efflab show`."""
    parser.add_argument("words", nargs="+", metavar="NAME", help="technique NAME, card NAME, or the name alone")
    parser.add_argument("--format", default="simple", help="any tabulate format, csv or json (default: simple)")


def run(args: argparse.Namespace) -> int:
    """Print the card of a technique, or what a baseline's card says and its model takes and gives."""
    from efflab.reporting.table import check_style

    check_style(args.format)
    kind, name = _asked(args.words)
    if kind == "card":
        from efflab.cli._show_card import show_card

        return show_card(name, args.format)
    return _show_technique(name, args.format)


def _asked(words: list[str]) -> tuple[str, str]:
    """Return what is to be shown; raise RequestError for a kind or a name that nobody has."""
    from efflab.cards.card_paths import card_files
    from efflab.foundation import registry
    from efflab.foundation.errors import RequestError, nearest

    if len(words) == 1:
        name = words[0]
        if name in registry.names("techniques"):
            return "technique", name
        if name in card_files() or name.endswith((".yaml", ".yml")):
            return "card", name
        raise RequestError(
            f"no technique and no card is named {name!r}; {nearest(name, [*registry.names('techniques'), *card_files()])}"
        )
    kind = words[0]
    if kind not in KINDS or len(words) > 2:
        raise RequestError(f"`efflab show` takes one of {', '.join(KINDS)}, and one name, not {' '.join(words)!r}")
    return kind, words[1]


def _show_technique(name: str, style: str) -> int:
    """Print a technique's card."""
    import inspect
    import sys
    import textwrap

    from efflab.cli._tables import show
    from efflab.foundation import registry

    technique = registry.load("techniques", name)
    settings = _settings(technique)
    gains = _gains(name)
    if style in ("csv", "json"):
        show(gains, style, list(gains[0]) if gains else [])
        return 0
    source = " ".join((inspect.getdoc(sys.modules[technique.__module__]) or "").split("\n\n")[0].split())
    print(f"{name}: {source}\n")
    for part in (inspect.getdoc(technique) or "").split("\n\n"):
        print(textwrap.fill(" ".join(part.split()), 110) + "\n")
    order = [("after", technique.after), ("not after", technique.before), ("moves", technique.claims)]
    told = [f"takes {technique.takes}", f"gives {technique.gives}"] + [
        f"{word} {', '.join(names)}" for word, names in order if names
    ]
    print("; ".join(told) + "\n")
    for other, reason in technique.rather_after.items():
        print(f"rather after {other}: {reason}")
    if technique.rather_after:
        print()
    show(settings, style, ["setting", "kind", "default", "meaning"])
    print("\nmeasured in the studies at hand:" if gains else "\nno study at hand has measured it")
    if gains:
        show(gains, style, list(gains[0]))
    return 0


def _settings(technique: Any) -> list[dict[str, str]]:
    """Return a row for each setting, those of a section after it."""
    rows = []
    for name, field in technique.model_fields.items():
        if name != technique.short_form:
            rows.append(_setting(name, field, field.default))
    for name in filter(None, [technique.short_form]):
        field = technique.model_fields[name]
        rows.append({"setting": name, "kind": "section", "default": "", "meaning": field.description or ""})
        rows += [_setting(f"{name}.{one}", inner, getattr(field.default, one)) for one, inner in _inside(field)]
    return rows


def _inside(field: Any) -> list[tuple[str, Any]]:
    return list(field.annotation.model_fields.items())


def _setting(name: str, field: Any, default: Any) -> dict[str, str]:
    kind = _kind(field.annotation)
    limits = ", ".join(_limit(one) for one in field.metadata if _limit(one))
    told = "(none: must be given)" if field.is_required() else str(default)
    kind = f"{kind}{f' ({limits})' if limits else ''}"
    return {"setting": name, "kind": kind, "default": told, "meaning": field.description or ""}


def _kind(annotation: Any) -> str:
    """Return a type as readers know it: its choices, or its name with its limits."""
    from types import UnionType
    from typing import Annotated, Literal, Union, get_args, get_origin

    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        limits = ", ".join(
            _limit(one) for field in parts[1:] for one in getattr(field, "metadata", [field]) if _limit(one)
        )
        return f"{_kind(parts[0])}{f' ({limits})' if limits else ''}"
    if origin in (Union, UnionType):
        return " or ".join("nothing" if part is type(None) else _kind(part) for part in parts)
    if origin is Literal:
        return " | ".join(map(str, parts))
    if origin is list:
        return f"list of {_kind(parts[0])}"
    return getattr(annotation, "__name__", str(annotation))


def _limit(one: Any) -> str:
    signs = (("gt", "above"), ("ge", "from"), ("lt", "below"), ("le", "up to"))
    return " ".join(f"{word} {getattr(one, sign)}" for sign, word in signs if getattr(one, sign, None) is not None)


def _gains(name: str) -> list[dict[str, str]]:
    """Return the rows of a technique with the largest certain speed-ups, one for each study and variant."""
    from efflab.comparison.columns import heading
    from efflab.reporting.table import show as cell

    best: dict[tuple[str, str], Row] = {}
    for row in _rows_at_hand():
        if row.against.speedup.known and _tells(row, name):
            key = (row.study, row.variant)
            if key not in best or row.against.speedup.low > best[key].against.speedup.low:
                best[key] = row
    gains = sorted(best.values(), key=lambda row: -row.against.speedup.low)[:MOST_ROWS]
    shown = (
        "study",
        "variant",
        "backend",
        "batch_size",
        "quality_difference",
        "speedup",
        "size_ratio",
        "shift_latency",
    )
    return [{heading(one): cell(row, one) for one in shown} for row in gains]


def _rows_at_hand() -> Iterator[Row]:
    """Return the rows of the studies at hand; any study that cannot be read is named on stderr and left out."""
    import sys

    from efflab.comparison.remembered import compared, kept_in
    from efflab.foundation.errors import RequestError
    from efflab.foundation.outside import why
    from efflab.suggest.past_studies import study_files

    store = kept_in()
    for path in study_files():
        try:
            yield from compared([path], ["latency"], store).rows
        except (OSError, RequestError) as error:
            what = why(error) if isinstance(error, OSError) else error.problems[0].what
            print(f"efflab: {path} is left out: {what}", file=sys.stderr)


def _tells(row: Row, name: str) -> bool:
    """Say whether a technique is the last telling step of a variant."""
    from efflab.contracts.technique_roles import supports

    telling = [step for step in row.steps if not supports(step) or step == name]
    return row.role == "variant" and telling[-1:] == [name]
