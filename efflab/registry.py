"""Finds plug-ins by file name: one file in `efflab/<kind>/`, in a folder of EFFLAB_PLUGINS, or an entry point."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import sys
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from efflab.errors import RequestError, nearest

KINDS = {"techniques": "technique", "backends": "backend", "tasks": "task", "models": "model"}


def class_name(name: str) -> str:
    """Return the name that plug-in file `name` must define: `prune_channels` -> `PruneChannels`."""
    return "".join(part.capitalize() for part in name.split("_"))


@cache
def sources(kind: str) -> dict[str, Path | EntryPoint]:
    """List the plug-ins of a kind by name without importing them; built-in files come first and cannot be shadowed."""
    found: dict[str, Path | EntryPoint] = {}
    for folder in [Path(__file__).parent / kind, *(folder / kind for folder in plugin_folders())]:
        for path in sorted(folder.glob("[!_]*.py")):
            _claim(found, kind, path.stem.replace("-", "_"), path)
    for point in entry_points(group=f"efflab.{kind}"):
        _claim(found, kind, point.name, point)
    return found


def _claim(found: dict[str, Path | EntryPoint], kind: str, name: str, source: Path | EntryPoint) -> None:
    if name in found:
        raise RequestError(f"two {kind} are named {name!r}: {_where(found[name])} and {_where(source)}; rename one")
    found[name] = source


def plugin_folders() -> list[Path]:
    """Return the folders of dropped-in plug-ins that the user named in EFFLAB_PLUGINS."""
    return [Path(entry).expanduser() for entry in os.environ.get("EFFLAB_PLUGINS", "").split(os.pathsep) if entry]


def _where(source: Path | EntryPoint) -> str:
    return str(source) if isinstance(source, Path) else f"entry point {source.value}"


def names(kind: str) -> list[str]:
    """Return the names of all plug-ins of a kind, sorted, without importing any."""
    return sorted(sources(kind))


def origin(kind: str, name: str) -> str:
    """Say where a plug-in comes from: `efflab`, its file, or its entry point."""
    source = sources(kind)[name]
    built_in = isinstance(source, Path) and source.is_relative_to(Path(__file__).parent)
    return "efflab" if built_in else _where(source)


@cache
def load(kind: str, name: str) -> Any:
    """Return the plug-in's class (or a model's builder function); raise RequestError naming the nearest on a miss."""
    source = sources(kind).get(name)
    if source is None:
        raise RequestError(f"unknown {KINDS[kind]} {name!r}; {nearest(name, sources(kind))}")
    if isinstance(source, EntryPoint):
        loaded = source.load()
        return loaded if not isinstance(loaded, ModuleType) else _member(loaded, kind, name, _where(source))
    return _member(_import_file(kind, name, source), kind, name, str(source))


def _import_file(kind: str, name: str, path: Path) -> ModuleType:
    if path.is_relative_to(Path(__file__).parent):
        return importlib.import_module(f"efflab.{kind}.{path.stem}")
    mark = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]
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
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[module_name]
        raise RequestError(f"{path} fails on import: {type(error).__name__}: {error}") from error
    return module


def _member(module: ModuleType, kind: str, name: str, where: str) -> Any:
    wanted = name if kind == "models" else class_name(name)
    if not hasattr(module, wanted):
        raise RequestError(f"{where} must define {wanted!r} to be the {KINDS[kind]} {name!r}")
    return getattr(module, wanted)
