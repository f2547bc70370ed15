"""Holds `efflab validate onnxruntime` against the ONNX project's own runner, case by case: python benchmarks/operators_agree.py

The runner is `onnx.backend.test.BackendTest` over ONNX Runtime's own `onnxruntime.backend`. Writes Markdown to standard
output: how many cases agree, and every one that does not, with what each side says.
"""

from __future__ import annotations

import os
import sys
import time
import unittest
import warnings
from collections import Counter

CASES = ("OnnxBackendNodeModelTest", "OnnxBackendSimpleModelTest", "OnnxBackendPyTorchConvertedModelTest",
         "OnnxBackendPyTorchOperatorModelTest")  # fmt: skip

# why a case differs, found by looking at it
EXPLAINED = {
    "test_attention_4d_causal_fp16": "two units in the last place off in one value; the runner allows less",
    "test_averagepool_2d_ceil_last_window_starts_on_pad": "the case holds rounded values, of four digits; the runner allows 1e-3",
    "test_gridsample_bicubic": "the case holds rounded values, of four digits; the runner allows 1e-3",
    "test_loop16_seq_none": "the output is a sequence, which the runner does not know how to compare; efflab compares its items",
}


def official() -> dict[str, tuple[str, str]]:
    """Return name -> (pass, fail or skip, first line of the reason) by the project's own runner, on the processor."""
    warnings.simplefilter("ignore")
    import onnx.backend.test
    import onnxruntime.backend

    tests = onnx.backend.test.BackendTest(onnxruntime.backend, __name__).enable_report().test_cases
    found: dict[str, tuple[str, str]] = {}

    class Recorder(unittest.TestResult):
        def _note(self, test: unittest.TestCase, verdict: str, reason: str = "") -> None:
            found[test.id().rsplit(".", 1)[-1].removesuffix("_cpu")] = (verdict, reason)

        def addSuccess(self, test: unittest.TestCase) -> None:  # noqa: N802 (unittest's name)
            self._note(test, "pass")

        def addSkip(self, test: unittest.TestCase, reason: str) -> None:  # noqa: N802
            self._note(test, "skip", reason)

        def addFailure(self, test: unittest.TestCase, err: object) -> None:  # noqa: N802
            self._note(test, "fail", " ".join(str(err[1]).split())[:160])  # type: ignore[index]

        addError = addFailure  # noqa: N815

    suite = unittest.TestSuite()
    for name in CASES:
        for case in unittest.defaultTestLoader.loadTestsFromTestCase(tests[name]):
            if case.id().endswith("_cpu"):
                suite.addTest(case)
    suite.run(Recorder())
    return found


def ours() -> dict[str, tuple[str, str]]:
    """Return name -> (verdict, reason) by efflab."""
    from efflab.validation.backends.pool import Opening
    from efflab.validation.backends.validate import Request, validate

    workers = os.cpu_count() or 1
    results = validate(Request(Opening("onnxruntime", {}, workers, []), ["operators"], workers=workers))["results"]
    return {result["name"]: (result["verdict"], result["reason"]) for result in results}


def main() -> None:
    """Compare both and print the differences."""
    started = time.perf_counter()
    mine = ours()
    between = time.perf_counter()
    theirs = official()
    took = time.perf_counter() - between
    both = [name for name in mine if name in theirs]
    apart = [name for name in both if (mine[name][0] == "pass") != (theirs[name][0] == "pass")]
    print("# Conformance cases: efflab against the ONNX project's own runner, on ONNX Runtime\n")
    print(
        f"- efflab: {sum(v == 'pass' for v, _ in mine.values())} of {len(mine)} pass, {between - started:.1f} s, isolated"
    )
    print(f"- the runner: {sum(theirs[n][0] == 'pass' for n in both)} of {len(both)} pass, {took:.1f} s in one process")
    print(f"- only on one side: {sorted(set(mine) ^ set(theirs)) or 'none'}")
    print(f"- the same on {len(both) - len(apart)}, different on {len(apart)}\n")
    if apart:
        print("| case | efflab | the runner | why |\n|---|---|---|---|")
    for name in apart:
        cells = (" ".join(part for part in side[name] if part)[:220].replace("|", "/") for side in (mine, theirs))
        print(f"| {name} | {' | '.join(cells)} | {EXPLAINED.get(name, 'not explained')} |")
    print("\nWhat the runner lumps together as failed, efflab calls:\n")
    for verdict, count in Counter(mine[name][0] for name in both if theirs[name][0] != "pass").most_common():
        print(f"- {count} {verdict}")


if __name__ == "__main__":
    sys.exit(main())
