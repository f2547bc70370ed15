"""Finds plug-ins by file name: one file in `efflab/<kind>/`, in a folder of EFFLAB_PLUGINS, or an entry point."""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import importlib.util
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

from efflab.foundation.errors import RequestError, nearest
from efflab.foundation.files import expanded, real
from efflab.foundation.requirements import missing_package
from efflab.foundation.wording import one_line

KINDS = {"techniques": "technique", "backends": "backend", "tasks": "task", "models": "model"}
FORMS = ("module", "onnx")
PLUGINS = "EFFLAB_PLUGINS"
RESERVED = {
    ("backends", "technique"): "`efflab validate technique NAME` checks techniques",
    ("models", "hf"): "in a card, `model: {hf: ...}` is a model of Hugging Face",
}
_ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # by which a user ends the program
STATES: dict[str, tuple[str, ...]] = {"techniques": ("takes", "gives"), "backends": ("takes",)}  # each one of FORMS


@dataclass(frozen=True)
class Clash:
    """Two plug-ins of one name, a name that is taken, or no file: it cannot be used, all others can."""

    reason: str
    where: str = "two places"


Source = Path | EntryPoint | Clash


@cache
def _all_entry_points() -> EntryPoints:
    return importlib.metadata.entry_points()  # reads those of every installed package, whatever is asked for


def entry_points(group: str) -> EntryPoints:
    """Return the entry points of a group."""
    return _all_entry_points().select(group=group)


def class_name(name: str) -> str:
    """Return the name that plug-in file `name` must define: `prune_channels` -> `PruneChannels`."""
    return "".join(part.capitalize() for part in name.split("_"))


@cache
def sources(kind: str) -> dict[str, Source]:
    """List the plug-ins of a kind by name without importing them; raise RequestError for a wrong EFFLAB_PLUGINS."""
    found: dict[str, Source] = {}
    for folder in [Path(__file__).parents[1] / kind, *(folder / kind for folder in plugin_folders())]:
        for path in sorted(folder.glob("[!_]*.py")):
            name, fault = path.stem.replace("-", "_"), _no_file(path)
            if fault and name in found:  # what can be no plug-in takes no name from one that can
                name = path.name
            _claim(found, kind, name, fault or path)
    for point in entry_points(group=f"efflab.{kind}"):
        _claim(found, kind, point.name, point)
    return found


def _no_file(path: Path) -> Clash | None:
    """Return why a path can be no plug-in, None for one that can."""
    try:
        if not path.is_file():
            what = "a folder" if path.is_dir() else "no regular file" if path.exists() else "a link that leads nowhere"
            return Clash(f"{path} is {what}, and a plug-in is a Python file; take it away", str(path))
        with path.open("rb"):
            return None
    except OSError as error:
        return Clash(f"{path} cannot be read ({(error.strerror or str(error)).lower()})", str(path))


def _claim(found: dict[str, Source], kind: str, name: str, source: Source) -> None:
    if (kind, name) in RESERVED:
        source = Clash(f"no {KINDS[kind]} can be named {name!r} ({_where(source)}): {RESERVED[kind, name]}; rename it")
    elif name in found:
        source = Clash(f"two {kind} are named {name!r}: {_where(found[name])} and {_where(source)}; rename one")
    found[name] = source


def plugin_folders() -> list[Path]:
    """Return the folders of dropped-in plug-ins named in EFFLAB_PLUGINS; raise RequestError for what is none."""
    entries = os.environ.get(PLUGINS, "").split(os.pathsep)
    folders = [expanded(entry, PLUGINS) for entry in entries if entry]
    for folder in folders:
        if not folder.is_dir():
            raise RequestError(f"EFFLAB_PLUGINS names {folder}, which is no folder")
        if not any((folder / kind).is_dir() for kind in KINDS):
            known = ", ".join(f"{kind}/" for kind in KINDS)
            raise RequestError(f"EFFLAB_PLUGINS names {folder}, which has none of the folders {known}")
    return folders


def own_plugins(kind: str, name: str) -> str:
    """Say where plug-ins from outside are looked up, and which folder near the working directory has this one."""
    folders = plugin_folders()
    told = f"your own are looked up in folders that the variable {PLUGINS} names"
    told += f": {', '.join(f'{folder / kind}/' for folder in folders)}" if folders else ", which is not set"
    file = f"{kind}/{name.replace('-', '_')}.py"
    try:
        likely = next((path for step in ("", "*/", "*/*/") for path in sorted(Path().glob(f"{step}{file}"))), None)
    except (OSError, ValueError, NotImplementedError):  # folders that cannot be read, and names that are no file's
        likely = None
    if likely is None:
        return told
    named = os.pathsep.join(str(folder) for folder in (*folders, likely.parents[1]))
    return f"{told}; there is {likely}: set {PLUGINS}={named}"


def _where(source: Source) -> str:
    if isinstance(source, Clash):
        return source.where
    return str(source) if isinstance(source, Path) else f"entry point {source.value}"


def names(kind: str) -> list[str]:
    """Return the names of all plug-ins of a kind, sorted, without importing any."""
    return sorted(sources(kind))


def origin(kind: str, name: str) -> str:
    """Say where a plug-in comes from: `efflab`, its file, or its entry point."""
    source = sources(kind)[name]
    built_in = isinstance(source, Path) and source.is_relative_to(Path(__file__).parents[1])
    return "efflab" if built_in else _where(source)


def working(kind: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the plug-ins of a kind that can be used, name -> class, and the others, name -> reason."""
    good, bad = {}, {}
    for name in names(kind):
        try:
            good[name] = load(kind, name)
        except RequestError as error:
            bad[name] = str(error)
    return good, bad


@cache
def load(kind: str, name: str) -> Any:
    """Return the plug-in's class (or a model's builder function).

    Raises RequestError, naming the nearest on a miss, and the reason for a plug-in that cannot be used.
    """
    source = sources(kind).get(name)
    if source is None:
        raise RequestError(f"unknown {KINDS[kind]} {name!r}; {nearest(name, sources(kind))}; {own_plugins(kind, name)}")
    if isinstance(source, Clash):
        raise RequestError(source.reason)
    loaded = _from_entry_point(source) if isinstance(source, EntryPoint) else _import_file(kind, name, source)
    if isinstance(loaded, ModuleType):
        loaded = _member(loaded, kind, name, _where(source))
    lacking = _lacking(kind, loaded)
    if lacking:
        raise RequestError(f"the {KINDS[kind]} {name!r} ({_where(source)}) cannot be used: {lacking}")
    return loaded


def _from_entry_point(point: EntryPoint) -> Any:
    with _refused_failures(f"the {_where(point)} fails to load"):
        return point.load()


def _lacking(kind: str, loaded: Any) -> str:
    """Return what a plug-in lacks of its contract, or ""."""
    if kind == "models":
        return "" if callable(loaded) else "it is no function"
    base = KINDS[kind].capitalize()
    if not isinstance(loaded, type) or not hasattr(loaded, "model_fields"):
        return f"it is no class derived from efflab.{base}"
    missing = sorted(getattr(loaded, "__abstractmethods__", ()))
    if missing:
        return f"it does not define {', '.join(missing)}"
    wrong = [state for state in STATES.get(kind, ()) if getattr(loaded, state, None) not in FORMS]
    return f"it must say `{wrong[0]}: ClassVar = ...`, one of {', '.join(map(repr, FORMS))}" if wrong else ""


def _import_file(kind: str, name: str, path: Path) -> ModuleType:
    if path.is_relative_to(Path(__file__).parents[1]):
        return importlib.import_module(f"efflab.{kind}.{path.stem}")
    mark = hashlib.sha256(os.fsencode(real(path))).hexdigest()[:8]
    return import_path(path, f"efflab_plugins.{kind}.{name}_{mark}")


def import_path(path: Path, module_name: str) -> ModuleType:
    """Import a Python file under a name of its own, once; raise RequestError if it fails on import."""
    if module_name in sys.modules:
        return sys.modules[module_name]
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None:
        raise RequestError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        with _refused_failures(f"{path} fails on import"):
            spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(module_name, None)
        raise
    return module


@contextmanager
def _refused_failures(what: str) -> Iterator[None]:
    """Make whatever code of others raises a RequestError, a KeyboardInterrupt, too; what a signal raises stays as it is.

    What that code prints goes to stderr: stdout is for what was asked for.
    """
    seen: list[int] = []
    main = threading.current_thread() is threading.main_thread()  # the only one that signals interrupt
    handlers = {one: found for one in _ENDS if callable(found := signal.getsignal(one))} if main else {}

    def noted(number: int, frame: FrameType | None) -> None:
        seen.append(number)
        handlers[signal.Signals(number)](number, frame)

    for one in handlers:
        signal.signal(one, noted)
    try:
        with redirect_stdout(sys.stderr):
            yield
    except BaseException as error:
        if seen:
            raise
        raise RequestError(f"{what}: {missing_package(error) or one_line(error)}") from error
    finally:
        for one, handler in handlers.items():
            signal.signal(one, handler)


def _member(module: ModuleType, kind: str, name: str, where: str) -> Any:
    wanted = name if kind == "models" else class_name(name)
    if not hasattr(module, wanted):
        raise RequestError(f"{where} must define {wanted!r} to be the {KINDS[kind]} {name!r}")
    return getattr(module, wanted)
