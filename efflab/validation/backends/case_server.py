"""A worker of `pool`: opens a backend, then does one case after another, each answered by its verdict.

The first request is a `pool.Opening`; a further one names its suite and holds what that suite's function asks for.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from efflab.foundation.child_server import serve
from efflab.foundation.errors import Died, text_of
from efflab.foundation.progress import Report
from efflab.foundation.wording import one_line
from efflab.validation.backends.bench import Bench
from efflab.validation.verdict import Verdict, is_refusal


def answer(verdict: Verdict, reason: str = "", **numbers: Any) -> dict[str, Any]:
    """Return an answer as the pool expects it."""
    return {"verdict": verdict, "reason": reason, "numbers": numbers}


def _open(request: dict[str, Any]) -> Bench:
    from efflab.foundation import registry
    from efflab.foundation.errors import Unavailable
    from efflab.validation.backends.tolerance import rules_of

    backend = registry.load("backends", request["backend"])(**request["settings"])
    reason = type(backend).available()
    if reason:
        raise Unavailable(reason)
    rules = rules_of([Path(path) for path in request["tolerances"]])
    return Bench(request["backend"], backend, request["threads"], rules)


def _suites() -> dict[str, Callable[[Bench, dict[str, Any]], dict[str, Any]]]:
    from efflab.validation.backends.calls import run_calls
    from efflab.validation.backends.suites.behaviour import run_behaviour
    from efflab.validation.backends.suites.conformance import run_operator, run_tensors
    from efflab.validation.backends.suites.parity import run_model, run_quality

    return {
        "operators": run_operator,
        "models": run_model,
        "calls": run_calls,
        "quality": run_quality,
        "tensors": run_tensors,
        "behaviour": run_behaviour,
    }


def main() -> None:
    """Serve one backend."""
    bench: Bench | None = None
    suites = _suites()

    def reply(request: dict[str, Any], report: Report) -> dict[str, Any]:
        nonlocal bench
        if bench is None:
            bench = _open(request)
            return {}
        try:
            return suites[request["suite"]](bench, request)
        except Died as died:
            return answer("crash", text_of(died))
        except Exception as error:
            text = one_line(error)[:400]
            return answer("unsupported" if is_refusal(error) else "error", text)

    serve(reply)


if __name__ == "__main__":
    main()
