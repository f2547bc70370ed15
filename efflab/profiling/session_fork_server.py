"""Has the runtime of a backend imported, and makes a copy of itself for each session. Started by `latency.measure_group`."""

from __future__ import annotations

from typing import Any

from efflab.foundation.child_server import serve
from efflab.foundation.fork_server import check_stream, exit_code, import_modules, make_copy
from efflab.foundation.progress import Report
from efflab.profiling import memory, session_server

OWN = ("numpy", "efflab.artefacts.artefact", "efflab.foundation.registry", "efflab.contracts.backend", "psutil")


def main() -> None:
    """Import what is asked for, then make copies, each of which serves one session."""
    ahead = session_server.Ahead()

    def answer(request: dict[str, Any], report: Report) -> dict[str, Any]:
        nonlocal ahead
        match request.pop("do"):
            case "import":
                check_stream(request["stream"])
                import_modules(OWN)
                empty = memory.resident_bytes() or 0
                took = import_modules(request["modules"])
                ahead = session_server.Ahead((memory.resident_bytes() or 0) - empty, took)
                return {}
            case "fork":
                return {"pid": make_copy(request["streams"], request["scratch"], lambda: session_server.main(ahead))}
            case _:
                return exit_code(request["pid"], forget=request["forget"])

    serve(answer)


if __name__ == "__main__":
    main()
