"""Entry point: finds the verb's file, runs it, and turns errors into one clear message and an exit code."""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
from pathlib import Path

from efflab.cli import INTERRUPTED
from efflab.cli._streams import begin, flushed, tell
from efflab.foundation.visible import harmless_output

FINE, GATE_FAILED, WRONG_REQUEST, OUR_BUG = 0, 1, 2, 3
ORDER = [
    "ls",
    "show",
    "suggest",
    "plan",
    "run",
    "compare",
    "report",
    "export",
    "validate",
    "new",
    "frontier",
    "train",
    "data",
    "doctor",
    "schema",
]


def verbs() -> list[str]:
    """Return the verbs in reading order; every file of this folder but this one is a verb."""
    found = {path.stem for path in Path(__file__).parent.glob("[!_]*.py")} - {"main"}
    return sorted(found, key=lambda verb: (ORDER.index(verb) if verb in ORDER else len(ORDER), verb))


def build_parser(only: str | None = None) -> argparse.ArgumentParser:
    """Build the parser; with `only`, just that verb's arguments, which is all that one call needs."""
    parser = argparse.ArgumentParser(
        prog="efflab",
        description="Tells which compression or acceleration technique is worth it, and proves it.",
        epilog="Start with: efflab ls; efflab run recipes/digits.yaml; efflab compare digits",
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="show program's version number and exit")
    commands = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for verb in [only] if only else verbs():
        module = importlib.import_module(f"efflab.cli.{verb}")
        command = commands.add_parser(
            verb, help=module.HELP, description=module.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    return parser


class _Version(argparse.Action):
    """Prints the version, which takes a while to find, only when it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        print(f"efflab {version('efflab')}")
        parser.exit()


@harmless_output()
def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return the exit code: 0 fine, 1 a check failed, 2 wrong request, 3 our bug, 130 interrupted."""
    program = begin()
    try:
        with flushed():
            return _run(sys.argv[1:] if arguments is None else arguments)
    except KeyboardInterrupt as interruption:
        cause, code = getattr(interruption, "cause", "interrupted"), getattr(interruption, "code", INTERRUPTED)
        tell(f"efflab: {cause}; what is finished is kept, the same command goes on from there")
        if program:  # Python may remember a Ctrl-C that is dealt with, and end by its signal
            os._exit(int(code))
        return int(code)
    except BrokenPipeError:
        return FINE
    except Exception as error:
        return _told(error)
    finally:
        if program:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # all is done, and Python takes its time to end


def _run(words: list[str]) -> int:
    from efflab.foundation.errors import nearest

    if words and not words[0].startswith("-") and words[0] not in verbs():
        tell(f"efflab: unknown verb {words[0]!r}; {nearest(words[0], verbs())}")
        return WRONG_REQUEST
    parser = build_parser(words[0] if words and words[0] in verbs() else None)
    options = parser.parse_args(words)
    return int(options.run(options))


def _told(error: Exception) -> int:
    """Say what is wrong, and return the exit code."""
    from efflab.foundation.errors import RequestError, Unavailable, disk_full

    if isinstance(error, RequestError):
        for problem in error.problems:
            tell(f"efflab: {problem}")
        return WRONG_REQUEST
    if isinstance(error, Unavailable):
        tell(f"efflab: {error}")
        return WRONG_REQUEST
    if isinstance(error, OSError) and (error.filename is not None or error.errno is not None):
        place = f"{error.filename}: " if error.filename else ""
        tell(f"efflab: {place}{(error.strerror or str(error)).lower()}")
        return WRONG_REQUEST
    if disk_full(error):
        tell("efflab: the disk is full; free some space and run the same command again")
        return WRONG_REQUEST
    import traceback

    tell("".join(traceback.format_exception(error)).rstrip())
    tell("efflab: this is a bug of efflab; please report it with the lines above")
    return OUR_BUG


if __name__ == "__main__":
    sys.exit(main())
