"""Writes HTML: the one way by which text gets into a page, and the rule that says what a page may run and load."""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Iterable

from efflab.foundation.visible import cell, cut, visible

LONGEST_LINE = 5000  # characters of one sentence or name outside of tables


def text(value: str) -> str:
    """Return a text that a page shows as it is, between tags or between the quotes of an attribute."""
    return html.escape(visible(cut(value, LONGEST_LINE)))


def cell_text(value: str) -> str:
    """Return the text of one cell of a table, cut where it is longer than people read."""
    return html.escape(cell(value))


def block_text(value: str) -> str:
    """Return a text of several lines as a page shows it."""
    return html.escape(visible(value, keep="\n\t"))


def items(lines: Iterable[str]) -> str:
    """Return the items of a list."""
    return "".join(f"<li>{text(line)}</li>" for line in lines)


def head(title: str, style: str, scripts: Iterable[str], files: bool = False) -> str:
    """Return the head of a page that runs these scripts alone, and loads nothing.

    files: whether it may also run script files that lie with it.
    """
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy(scripts, files)}"><title>{text(title)}</title>'
        f'<meta name="viewport" content="width=device-width,initial-scale=1"><style>{style}</style></head>'
    )


def policy(scripts: Iterable[str], files: bool = False) -> str:
    """Return the Content-Security-Policy of a page: scripts run by their digests, so that none of a study's could."""
    allowed = " ".join([*map(_digest, scripts), *(["'self'"] if files else [])])
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; connect-src 'none'; base-uri 'none'; "
        "form-action 'none'"
    )


def _digest(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
