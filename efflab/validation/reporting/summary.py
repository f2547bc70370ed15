"""Says what a validation found: counts, what is bad, the matrix of operators, what changed; and the exit code."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from efflab.validation.record import SpeedRow, Validation
from efflab.validation.reporting.earlier import change_lines, got_worse
from efflab.validation.verdict import BAD, MEANING, CaseResult, Verdict

MOST_TOLD = 12
MOST_REASONS = 3


def counts(results: Iterable[CaseResult]) -> dict[Verdict, int]:
    """Return how many cases have each verdict, in the order of their meaning."""
    found = Counter(result["verdict"] for result in results)
    return {verdict: found[verdict] for verdict in MEANING if found[verdict]}


def one_line(validation: Validation) -> str:
    """Return the verdict as a badge: `openvino: 1,532 of 1,888 pass, 12 wrong, 344 unsupported`."""
    results = validation["results"]
    if not results:
        timed = sum(row["ratio"] is not None for row in validation["speed"])
        told = [f"{timed} of {len(validation['speed'])} speeds measured"] if validation["speed"] else []
        told += [f"{len(validation['forecasts'])} forecasts"] if validation["forecasts"] else []
        return f"{validation['backend']}: {', '.join(told) or 'no cases were asked for'}"
    found = counts(results)
    rest = ", ".join(f"{count:,} {verdict}" for verdict, count in found.items() if verdict != "pass")
    return f"{validation['backend']}: {found.get('pass', 0):,} of {len(results):,} pass{', ' if rest else ''}{rest}"


def matrix(results: Sequence[CaseResult]) -> list[tuple[str, str, str, dict[Verdict, int]]]:
    """Return (operator, element type, opsets, counts) of the operators suite."""
    cells: dict[tuple[str, str], list[CaseResult]] = {}
    for result in results:
        if result["suite"] == "operators" and result["operator"]:
            cells.setdefault((result["operator"], result["dtype"]), []).append(result)
    return [
        (operator, dtype, _opsets(found), counts(found)) for (operator, dtype), found in sorted(cells.items())
    ]  # fmt: skip


def _opsets(results: Iterable[CaseResult]) -> str:
    seen = sorted({result["opset"] for result in results if result["opset"] is not None})
    return ", ".join(map(str, seen))


def barren(validation: Validation) -> dict[str, str]:
    """Return suites of which not one case came through though some were tried, each with the commonest reason.

    A backend that refuses everything does not run: that is no success, however politely it is said.
    """
    found = {}
    for suite in validation["suites"]:
        tried = [one for one in validation["results"] if one["suite"] == suite and one["verdict"] != "skipped"]
        if tried and not any(one["verdict"] in ("pass", "fell back") for one in tried):
            ((reason, _),) = Counter(one["reason"] for one in tried).most_common(1)
            found[suite] = reason
    speeds = validation["speed"]
    if speeds and not any(row["ratio"] for row in speeds):
        found["speed"] = speeds[0]["verdict"]
    return found | _barren_own(validation)


def _barren_own(validation: Validation) -> dict[str, str]:
    """Return the user's models of which nothing came through, each with a reason: whoever names one wants to know of it."""
    found = {}
    for row in validation.get("own", []):
        cases = [one for one in validation["results"] if one["suite"] == "models" and _is_of(one["name"], row["model"])]
        speeds = [one for one in validation["speed"] if one["model"] == row["model"]]
        passed = [one["verdict"] in ("pass", "fell back") for one in cases] or [
            one["ratio"] is not None for one in speeds
        ]
        if not any(passed):
            reason = cases[0]["reason"] if cases else speeds[0]["verdict"] if speeds else "nothing was tried"
            found[f"your model {row['model']}"] = reason
    return found


def _is_of(case: str, model: str) -> bool:
    return case.startswith((f"{model}, batch ", f"{model}, one session, "))


def failed(validation: Validation, before: Validation | None) -> bool:
    """Say whether a pipeline should stop: something is bad or nothing ran, or, against an earlier validation, got worse."""
    if barren(validation):
        return True
    if before is not None:
        return got_worse(validation, before)
    return any(result["verdict"] in BAD for result in validation["results"])


def lines(validation: Validation, before: Validation | None = None) -> list[str]:
    """Return the summary for a terminal."""
    told = [f"not one case of {suite} came through: {reason}" for suite, reason in barren(validation).items()]
    if validation.get("own"):
        told += ["models of your own, run with made-up inputs:", *(f"  {line}" for line in own_words(validation))]
    for suite in validation["suites"]:
        results = [result for result in validation["results"] if result["suite"] == suite]
        if results:
            told.append(f"{suite}: " + ", ".join(f"{count:,} {verdict}" for verdict, count in counts(results).items()))
            told += _told(results)
    told += [f"  located in {one['model']}: {one['words']}" for one in validation["located"]]
    if validation["speed"]:
        told.append(f"speed against {validation['reference']}:")
        told += [f"  {speed_words(row)}" for row in validation["speed"]]
    if validation["forecasts"]:
        told.append(
            "portability, on processors that add pairs of int8 products in 16 bits (x86 without VNNI), by emulation:"
        )
        told += [f"  {row['model']}: {row['words']}" for row in validation["forecasts"]]
    told += ["", *change_lines(validation, before)] if before is not None else []
    return [*told, "", one_line(validation)]


def own_words(validation: Validation) -> list[str]:
    """Say of each of the user's models what its inputs were filled with, one line an input, and what else is to know."""
    told = []
    for row in validation.get("own", []):
        for one in row["inputs"]:
            shape = ", ".join(map(str, one["shape"]))
            told.append(f"{row['model']}: {one['name']}, {one['dtype']} [{shape}]: {one['values']}")
        told += [f"{row['model']}: {note}" for note in row["notes"]]
    return told


def speed_words(row: SpeedRow) -> str:
    """Say one line of the speed suite."""
    what, ratio = f"{row['model']}, batch {row['batch']}", row["ratio"]
    if ratio is None:
        return f"{what}: {row['verdict']}"
    return (
        f"{what}: {row['latency_ms_p50']:.3g} ms, {ratio['value']:.2f}x [{ratio['low']:.2f}, {ratio['high']:.2f}] "
        f"the reference's speed, {row['verdict']}"
    )


def _told(results: Sequence[CaseResult]) -> list[str]:
    bad = [result for result in results if result["verdict"] in BAD]
    told = [f"  {result['verdict']}: {result['name']}: {result['reason']}" for result in bad[:MOST_TOLD]]
    if len(bad) > MOST_TOLD:
        told.append(f"  and {len(bad) - MOST_TOLD} more; all stand in the report")
    for verdict in ("unsupported", "skipped"):
        reasons = Counter(result["reason"] for result in results if result["verdict"] == verdict).most_common()
        told += [f"  {verdict}: {f'{n} x ' if n > 1 else ''}{reason}" for reason, n in reasons[:MOST_REASONS]]
        if len(reasons) > MOST_REASONS:
            rest = sum(count for _, count in reasons[MOST_REASONS:])
            told.append(f"  {verdict}: {rest} more for {len(reasons) - MOST_REASONS} other reasons")
    return told
