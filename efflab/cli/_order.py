"""Draws the order of techniques, as text or for Mermaid: what must, may not and had better stand before what."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

STAGES = (
    ("module", "module"),
    ("module", "onnx"),
    ("onnx", "onnx"),
    ("onnx", "module"),
)  # as a model goes through them
LABEL = 16
LEAST_WIDTH = 60

Techniques = Mapping[str, Any]  # name -> class


def as_text(techniques: Techniques, unusable: Mapping[str, str], width: int) -> list[str]:
    """Return a paragraph for each technique, under the flow stage it belongs to."""
    lines: list[str] = []
    for takes, gives, names in _stages(techniques):
        lines += ["", f"{takes} -> {gives}"]
        for name in names:
            lines += ["", f"  {name}", *_paragraph(techniques[name], max(width, LEAST_WIDTH))]
    lines += ["", *(f"{name} cannot be used: {reason}" for name, reason in unusable.items())] if unusable else []
    return lines[1:]


def _paragraph(technique: Any, width: int) -> list[str]:
    order = [
        ("must come after", [" or ".join(technique.after)] if technique.after else []),
        ("not after", [", ".join(technique.before)] if technique.before else []),
        ("rather after", [f"{other}: {reason}" for other, reason in technique.rather_after.items()]),
    ]
    lines = []
    for label, entries in order:
        for entry in entries:
            head = f"    {label:<{LABEL}}" if entry == entries[0] else " " * (4 + LABEL)
            lines += textwrap.wrap(entry, width, initial_indent=head, subsequent_indent=" " * (6 + LABEL))
    return lines or ["    no order of its own"]


def as_mermaid(techniques: Techniques) -> list[str]:
    """Return a flowchart: thick arrows must, dotted ones with their reason should, crossed ones may not be followed."""
    lines = ["flowchart LR"]
    for takes, gives, names in _stages(techniques):
        lines.append(f'  subgraph {takes}_to_{gives}["{takes} -> {gives}"]')
        lines += [*(f'    t_{name}["{name}"]' for name in names), "  end"]
    for name, technique in techniques.items():
        must = "== one of these ==>" if len(technique.after) > 1 else "==>"
        lines += [f"  t_{other} {must} t_{name}" for other in technique.after]
        lines += [f"  t_{other} --x t_{name}" for other in technique.before]
        lines += [f'  t_{other} -. "{_quoted(why)}" .-> t_{name}' for other, why in technique.rather_after.items()]
    return lines


def _stages(techniques: Techniques) -> list[tuple[str, str, list[str]]]:
    """Return the flow stages that have techniques, with the names of theirs."""
    found = [
        (takes, gives, [name for name, one in techniques.items() if (one.takes, one.gives) == (takes, gives)])
        for takes, gives in STAGES
    ]
    return [stage for stage in found if stage[2]]


def _quoted(text: str) -> str:
    return text.replace('"', "#quot;")
