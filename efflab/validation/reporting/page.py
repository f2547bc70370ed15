"""Makes the page of a validation: one HTML file that loads nothing, with the same tables as the other reports."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from efflab.reporting.markup import head, items, text
from efflab.reporting.page import SORTING, STYLE, table
from efflab.validation.record import Validation
from efflab.validation.reporting.earlier import change_lines
from efflab.validation.reporting.summary import barren, counts, matrix, one_line, own_words, speed_words
from efflab.validation.verdict import BAD, MEANING, CaseResult, Verdict

COLOURS = {"pass": "#0072B2", "unsupported": "#8A8A8A", "skipped": "#BBBBBB"}  # everything else is bad: vermilion
BAD_COLOUR = "#D55E00"


def page(validation: Validation, before: Validation | None = None) -> str:
    """Return the page as HTML."""
    results = validation["results"]
    settings = ", ".join(f"{key} {value}" for key, value in validation["settings"].items())
    machine = ", ".join(
        f"{key} {value}" for key, value in validation["machine"].items() if isinstance(value, (str, int))
    )
    parts = [
        head(f"{validation['backend']}: efflab validation", STYLE, [SORTING]),
        f"<body><header><h1>{text(validation['backend'])}</h1><ul class=lead>{items([one_line(validation)])}</ul></header><main>",
        _items([
            *([f"settings: {settings}"] if settings else []),
            *(f"not one case of {suite} came through: {reason}" for suite, reason in barren(validation).items()),
            *(f"a tolerance of the user's own: {rule}" for rule in validation.get("tolerances", [])),
        ]),
        _listed("Against the earlier validation", change_lines(validation, before) if before else []),
        "<h2>Verdicts</h2>", _verdicts(validation),
        _listed("Models of the user's own, run with made-up inputs", own_words(validation)),
        *(_bad(suite, [one for one in results if one["suite"] == suite]) for suite in validation["suites"]),
        _listed("Where it is wrong", [f"{one['model']}: {one['words']}" for one in validation["located"]]),
        _listed(f"Speed against {validation['reference']}", map(speed_words, validation["speed"])),
        _listed("Portability: processors that add pairs of int8 products in 16 bits (x86 without VNNI), by emulation",
                [f"{row['model']}: {row['words']}" for row in validation["forecasts"]]),
        _matrix(results),
        *(_cases(suite, [one for one in results if one["suite"] == suite]) for suite in ("models", "behaviour")),
        _refused([one for one in results if one["suite"] == "operators"]),
        f"<h2>Where the numbers come from</h2><p class=quiet>{text(machine)}"
        f"{text('; ' + validation['made'] if 'made' in validation else '')}. Times of two validations do not compare: "
        "the machine is another from hour to hour. Ratios against the reference do, which was timed in turn.</p></main>",
        f"<script>{SORTING}</script></body></html>",
    ]  # fmt: skip
    return "\n".join(part for part in parts if part) + "\n"


def _items(lines: Iterable[str]) -> str:
    found = items(lines)
    return f"<ul>{found}</ul>" if found else ""


def _listed(title: str, lines: Iterable[str]) -> str:
    found = _items(lines)
    return f"<h2>{text(title)}</h2>{found}" if found else ""


def _plain(cells: Iterable[str]) -> list[tuple[str | None, str]]:
    return [(None, cell) for cell in cells]


def _verdicts(validation: Validation) -> str:
    suites = [suite for suite in validation["suites"] if any(one["suite"] == suite for one in validation["results"])]
    body = []
    for verdict, meaning in MEANING.items():
        found = [
            counts(one for one in validation["results"] if one["suite"] == suite).get(verdict, 0) for suite in suites
        ]
        body.append(("", _plain([verdict, *map(str, found), meaning])))
    return table([("verdict", ""), *((suite, "") for suite in suites), ("meaning", "")], body, "wrap")


def _bad(suite: str, results: list[CaseResult]) -> str:
    bad = [one for one in results if one["verdict"] in BAD]
    if not bad:
        return ""
    body = [("", _plain([one["verdict"], one["name"], one["operator"], one["dtype"], one["reason"]])) for one in bad]
    heads = [(head, "") for head in ("verdict", "case", "operator", "element type", "what")]
    return f"<h2>Bad in {suite}</h2><div class=scroll>{table(heads, body, 'wrap')}</div>"


def _matrix(results: list[CaseResult]) -> str:
    """Return operators by element type: a bar of the verdicts of each."""
    found = matrix(results)
    if not found:
        return ""
    dtypes = list(dict.fromkeys(dtype for _, dtype, _, _ in sorted(found, key=lambda cell: cell[1])))
    cells = {(operator, dtype): (opsets, tally) for operator, dtype, opsets, tally in found}
    lines = []
    for operator in dict.fromkeys(operator for operator, *_ in found):
        marks = "".join(
            f"<td>{_mark(*cells[operator, dtype])}</td>" if (operator, dtype) in cells else "<td></td>"
            for dtype in dtypes
        )
        lines.append(f"<tr><th scope=row>{text(operator)}</th>{marks}</tr>")
    heads = "".join(f"<th scope=col>{text(dtype or 'none')}</th>" for dtype in dtypes)
    return (
        "<h2>Operators by element type</h2><p class=quiet>passed of all cases; opsets show under the pointer. Blue: "
        "all pass; grey: the rest is unsupported; vermilion: something is wrong.</p>"
        f"<div class=scroll><table><thead><tr><th></th>{heads}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
    )


def _mark(opsets: str, tally: Mapping[Verdict, int]) -> str:
    bad = any(verdict in BAD for verdict in tally)
    colour = BAD_COLOUR if bad else COLOURS["pass"] if set(tally) == {"pass"} else "#595959"
    told = ", ".join(f"{count} {verdict}" for verdict, count in tally.items())
    return (
        f'<span style="color:{colour};font-weight:{600 if bad else 400}" title="{text(f"opset {opsets}: {told}")}">'
        f"{tally.get('pass', 0)}/{sum(tally.values())}</span>"
    )


def _cases(suite: str, results: list[CaseResult]) -> str:
    if not results:
        return ""
    keys = list(dict.fromkeys(key for one in results for key in one["numbers"]))
    body = []
    for one in results:
        numbers = ["equal" if key == "sqnr_db" and key in one["numbers"] and one["numbers"][key] is None
                   else "" if one["numbers"].get(key) is None else f"{one['numbers'][key]:.4g}" for key in keys]  # fmt: skip
        body.append(("", _plain([one["name"], one["dtype"], one["verdict"], *numbers, one["reason"]])))
    heads = [(head, "") for head in ("case", "numbers", "verdict", *keys, "what")]
    return f"<h2>All of {suite}</h2><div class=scroll>{table(heads, body, 'wrap')}</div>"


def _refused(results: list[CaseResult]) -> str:
    refused: dict[str, list[str]] = {}
    for one in results:
        if one["verdict"] in ("unsupported", "skipped"):
            refused.setdefault(one["reason"][:160], []).append(one["name"])
    lines = [
        f"{reason}: {', '.join(names[:8])}{f' and {len(names) - 8} more' if len(names) > 8 else ''}"
        for reason, names in refused.items()
    ]
    return (
        f"<details><summary>{len(lines)} reasons of what is unsupported or skipped</summary>{_items(lines)}</details>"
        if lines
        else ""
    )
