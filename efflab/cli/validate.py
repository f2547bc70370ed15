"""Validate a backend, or hold a technique to its contract.

efflab validate BACKEND: ONNX's conformance cases, whole models, behaviour and speed, each case with a verdict.
Verdicts are kept apart: pass, wrong, crash, hang, error, fell back, unsupported, skipped. Every case runs in a process of
its own kind: a segmentation fault or an endless loop is a verdict, and the run goes on. Exit code 1 if something is wrong,
crashes, hangs, raises or falls back, or if nothing of a suite or of a model of your own came through; with --against only if
something got worse or slower, or there was nothing to compare. To gate on a backend that has known faults, keep a
validation.json as its baseline. Exit code 2 if a model of your own cannot be tried: a file of its weights is missing, ...

efflab validate technique NAME: every promise of the contract, on small nets of three families, in this process, in seconds.
Verdicts: pass, broken, refused (a family of nets, in words), unavailable (something is not installed), skipped (another check
has to pass first, or the technique says why there is nothing to check). Exit code 1 if a promise is broken.
"""

from __future__ import annotations

import argparse
from contextlib import nullcontext
from typing import Any

HELP = "validate a backend (is it right, where is it wrong, how fast is it) or a technique (does it keep its promises)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `efflab validate`."""
    parser.usage = f"{parser.prog} BACKEND [options]\n       {parser.prog} technique NAME [--format FORMAT]"
    parser.add_argument(
        "words",
        nargs="+",
        metavar="WHAT",
        help="a backend, see `efflab ls backends`; or the word technique and a technique, see `efflab ls techniques`",
    )
    parser.add_argument(
        "--format", metavar="FORMAT", help="of a technique's table: any tabulate format, csv or json (default: simple)"
    )
    add = parser.add_argument_group("options for a backend").add_argument
    add(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a setting of the backend, e.g. precision=bf16 (repeatable)",
    )
    add(
        "--suite",
        action="append",
        metavar="SUITE",
        help="operators, models, behaviour, speed or portability (repeatable; default: all)",
    )
    add("--quick", action="store_true", help="one case for each operator and element type, two models, no long checks")
    add(
        "--operator",
        default="",
        metavar="NAME",
        help="only conformance cases of this operator, or with this in their name",
    )
    add(
        "--model",
        action="append",
        default=[],
        metavar="FILE",
        help="an ONNX file of your own, with the files of weights beside it, for models and speed (repeatable); "
        "its inputs are made up, and the report says how",
    )
    add("--tolerances", action="append", default=[], metavar="FILE", help="YAML rules that come before those of efflab")
    add(
        "--localise",
        action="store_true",
        help="find the first wrong operator of every wrong model, and write a reproducer",
    )
    add(
        "--reference",
        default="onnxruntime",
        metavar="BACKEND",
        help="what speed is held against (default: onnxruntime; for that one itself: torch)",
    )
    add("--against", metavar="FILE", help="an earlier validation.json: say what got worse and better")
    add("--workers", type=int, metavar="N", help="processes of the operators suite (default: processors)")
    add("--out", metavar="FOLDER", help="where to write it (default: .efflab/validation/BACKEND)")


def run(args: argparse.Namespace) -> int:
    """Validate what the words name; return 1 if something is wrong with it."""
    from efflab.foundation.errors import RequestError

    what, *rest = args.words
    if what == "technique":
        return _technique(rest, args)
    if rest:
        raise RequestError(f"one backend at a time (found {' '.join(args.words)}); for a technique: technique NAME")
    if args.format is not None:
        raise RequestError("--format is for techniques; a backend's verdicts are written as a page, JSON and JUnit XML")
    return _backend(what, args)


def _technique(names: list[str], args: argparse.Namespace) -> int:
    """Print the verdict on each promise of a technique."""
    import sys
    import tempfile
    from collections import Counter
    from pathlib import Path

    from efflab.cli._progress import steps
    from efflab.cli._tables import show
    from efflab.foundation import registry
    from efflab.foundation.errors import RequestError
    from efflab.reporting.table import check_style
    from efflab.validation.techniques.checks import CHECKS, judge, promise
    from efflab.validation.techniques.workplace import Workplace

    style = args.format or "simple"
    _refuse_backend_options(args)
    check_style(style)
    if len(names) != 1:
        raise RequestError(f"name one technique; known: {', '.join(registry.names('techniques'))}")
    registry.load("techniques", names[0])
    plain = style in ("csv", "json") or not sys.stdout.isatty()
    found = []
    with tempfile.TemporaryDirectory() as folder, nullcontext() if plain else steps() as report:
        workplace = Workplace(Path(folder))
        for number, check in enumerate(CHECKS):
            if report is not None:
                report(names[0], number, len(CHECKS), check)
            found.append(judge(check, names[0], workplace))
    rows = [{**one._asdict(), "promise": promise(one.check)} for one in found]
    show(rows, style, ["check", "verdict", "detail"] + (["promise"] if style in ("csv", "json") else []))
    counts = Counter(one.verdict for one in found)
    if style not in ("csv", "json"):
        told = ", ".join(f"{count} {verdict}" for verdict, count in counts.most_common())
        print(f"\n{len(found)} promises of {names[0]}: {told}")
        for one in found:
            if one.verdict == "broken":
                print(f"broken: {one.check}: {promise(one.check)}")
    return int(counts["broken"] > 0)


def _refuse_backend_options(args: argparse.Namespace) -> None:
    from efflab.foundation.errors import RequestError

    parser = argparse.ArgumentParser()
    add_arguments(parser)
    for name, default in vars(parser.parse_args(["technique"])).items():
        if name not in ("words", "format") and getattr(args, name) != default:
            raise RequestError(f"--{name} is for backends; `efflab validate technique NAME` takes --format only")


def _backend(backend: str, args: argparse.Namespace) -> int:
    """Validate a backend, write page, JSON and JUnit XML, and say what was found."""
    import os
    import sys
    from pathlib import Path

    from efflab.cli import INTERRUPTED
    from efflab.cli._progress import steps
    from efflab.foundation.errors import RequestError
    from efflab.foundation.visible import visible
    from efflab.records.store import LocalStore
    from efflab.validation.backends.pool import Opening
    from efflab.validation.backends.tolerance import rules_of
    from efflab.validation.backends.validate import SUITES, Request, validate
    from efflab.validation.record import load_validation, written
    from efflab.validation.reporting.junit import junit
    from efflab.validation.reporting.page import page
    from efflab.validation.reporting.summary import failed, lines

    suites = args.suite or list(SUITES)
    _check_suites(backend, suites, args)
    rules_of([Path(path) for path in args.tolerances])  # read before the work, so that a mistake in them is told first
    before = load_validation(Path(args.against)) if args.against else None
    folder = Path(args.out) if args.out else LocalStore.open().root / "validation" / backend
    rules = [str(Path(path).resolve()) for path in args.tolerances]
    asked = Request(
        opening=Opening(backend, _settings(backend, args.set), os.cpu_count() or 1, rules),
        suites=[suite for suite in SUITES if suite in suites],
        quick=args.quick, workers=args.workers or os.cpu_count() or 1, only=args.operator,
        models=[Path(path) for path in args.model], localise=folder / "localised" if args.localise else None,
        speed_reference=args.reference,
    )  # fmt: skip
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "index.html").open("a").close()  # so that a folder that cannot be written is told before the work
        with steps() as report:
            found = validate(asked, report)
        (folder / "validation.json").write_text(written(found), encoding="utf-8")
        (folder / "junit.xml").write_text(junit(found, before), encoding="utf-8")
        (folder / "index.html").write_text(page(found, before), encoding="utf-8")
    except KeyboardInterrupt:
        print("efflab: interrupted; a validation is kept only when it has ended", file=sys.stderr)
        return INTERRUPTED
    except OSError as error:
        raise RequestError(f"cannot write to {folder}: {(error.strerror or str(error)).lower()}") from error
    files = [str(folder / name) for name in ("index.html", "validation.json", "junit.xml")]
    print("\n".join(map(visible, ["", *files, "", *lines(found, before)])))
    return int(failed(found, before))


def _check_suites(backend: str, suites: list[str], args: argparse.Namespace) -> None:
    from efflab.foundation import registry
    from efflab.foundation.errors import RequestError, nearest
    from efflab.validation.backends.validate import SUITES

    for suite in suites:
        if suite not in SUITES:
            raise RequestError(f"unknown suite {suite!r}; {nearest(suite, SUITES)}")
    for name in (backend, args.reference):
        registry.load("backends", name)
    if args.workers is not None and args.workers < 1:
        raise RequestError(f"--workers must be at least 1, not {args.workers}")
    if args.operator and "operators" not in suites:
        raise RequestError("--operator chooses cases of the operators suite, which --suite leaves out")
    if args.model and not {"models", "speed"} & {*suites}:
        raise RequestError("--model is for the suites models and speed, which --suite leaves out")
    if args.localise and "models" not in suites:
        raise RequestError("--localise looks into wrong cases of the suite models, which --suite leaves out")


def _settings(backend: str, words: list[str]) -> dict[str, Any]:
    """Return settings of KEY=VALUE words, values read as YAML and checked by the backend."""
    from pathlib import Path

    from efflab.foundation import registry
    from efflab.foundation.config import check, parse_yaml
    from efflab.foundation.errors import RequestError

    wrong = next((word for word in words if "=" not in word[1:]), None)
    if wrong is not None:
        raise RequestError(f"--set takes KEY=VALUE (found {wrong!r})")
    text = "\n".join(word.replace("=", ": ", 1) for word in words) or "{}"
    made = check(registry.load("backends", backend), parse_yaml(text, Path("--set")))
    settings: dict[str, Any] = made.model_dump(exclude_defaults=True)
    return settings
