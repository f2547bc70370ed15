"""The verdicts on a case, kept apart: a backend that refuses in words is not wrong, and one that dies is no refusal."""

from __future__ import annotations

import re
from typing import Any, Literal

from typing_extensions import TypedDict

from efflab.foundation.errors import text_of

Verdict = Literal["pass", "wrong", "crash", "hang", "error", "fell back", "unsupported", "skipped"]

MEANING: dict[Verdict, str] = {
    "pass": "all outputs lie within tolerance, or the behaviour is as it should be",
    "wrong": "an output lies outside tolerance, or has another type or shape, or the behaviour is not as it should be",
    "crash": "the process died",
    "hang": "no answer within the time limit",
    "error": "an exception that does not say that something is not supported",
    "fell back": "right, but operators ran elsewhere than on the backend's device",
    "unsupported": "the backend or its binding says in words that it does not have this",
    "skipped": "not tried, for the reason given",
}
BAD: tuple[Verdict, ...] = ("wrong", "crash", "hang", "error", "fell back")

# how runtimes say that they do not have something; the first two groups name what the binding cannot pass at all
REFUSALS = (
    r"not (?:yet |currently )?(?:been )?(?:implemented|supported|registered)", r"un(?:supported|implemented)",
    r"not_implemented", r"notimplemented", r"does(?: not|n't) support",
    r"no (?:kernel|implementation|conversion|corresponding|op )",
    r"can't be converted", r"wasn't fully converted",
    r"not a registered (?:function|op)", r"cannot (?:be )?(?:convert|pass)", r"no (?:viable|known) (?:overload|conversion)",
    r"cannot parse data from external tensors",  # ONNX Runtime: shapes that lie in a file beside the model
    r"unknown (?:op|operator|type|data ?type)", r"is under development",
)  # fmt: skip


class CaseResult(TypedDict):
    """What was found of one case."""

    suite: str
    name: str
    operator: str  # of the operators suite; "" elsewhere
    dtype: str
    opset: int | None
    verdict: Verdict
    reason: str  # "" for a plain pass
    seconds: float
    numbers: dict[str, Any]  # what was measured: max_abs_error, sqnr_db, ...


def is_refusal(error: BaseException) -> bool:
    """Say whether an exception is a backend's word that it does not have something."""
    from efflab.foundation.errors import RequestError, Unavailable

    if isinstance(error, (NotImplementedError, Unavailable, RequestError)):
        return True
    text = f"{type(error).__name__} {text_of(error)}".lower()
    return any(re.search(refusal, text) for refusal in REFUSALS)
