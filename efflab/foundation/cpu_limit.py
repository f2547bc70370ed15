"""Reads how much processor time Linux control groups give this process: what containers are limited by (cgroup v1 and v2)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

V2 = ""  # cgroup v2 has one hierarchy; those of v1 go by a controller
# where hierarchies are mounted, for systems that do not tell
USUAL = (
    (V2, "sys/fs/cgroup"), (V2, "sys/fs/cgroup/unified"), ("cpu", "sys/fs/cgroup/cpu"),
    ("cpu", "sys/fs/cgroup/cpu,cpuacct"), ("cpuset", "sys/fs/cgroup/cpuset"),
)  # fmt: skip
SETS = ("cpuset.cpus.effective", "cpuset.effective_cpus", "cpuset.cpus")


class CpuLimit(NamedTuple):
    """Processors' worth of time that the process may use, and the processors it may run on (`0-3,8`); None: no limit."""

    processors: float | None
    allowed: str | None


class _Mount(NamedTuple):
    controller: str
    shows: str  # the group that the mount point shows: in a container that of the container
    folder: Path


def cpu_limit(root: Path = Path("/")) -> CpuLimit:
    """Return the limits of this process's control groups, those of the groups around it included; `root` is for tests."""
    groups = _groups(_read(root / "proc/self/cgroup"))
    quotas: list[float] = []
    allowed: str | None = None
    for mount in _mounts(root):
        for controller, group in groups:
            if controller != mount.controller:
                continue
            for folder in _upwards(mount, group):
                quota = _quota(folder)
                quotas += [quota] if quota else []
                allowed = allowed or next(filter(None, (_read(folder / name) for name in SETS)), None)
    return CpuLimit(min(quotas, default=None), allowed if count(allowed) else None)


def count(allowed: str | None) -> int:
    """Return how many processors a list such as `0-3,8` names; 0 for what is no such list."""
    found: set[int] = set()
    try:
        for part in filter(None, (allowed or "").split(",")):
            first, _, last = part.partition("-")
            found.update(range(int(first), int(last or first) + 1))
    except ValueError:
        return 0
    return len(found)


def _groups(text: str) -> list[tuple[str, str]]:
    """Return (controller, path) of the groups in /proc/self/cgroup; the outermost ones where that cannot be read."""
    found = []
    for line in text.splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            found.append((V2, path))
        found += [(one, path) for one in controllers.split(",") if one in ("cpu", "cpuset")]
    return found or [(V2, "/"), ("cpu", "/"), ("cpuset", "/")]


def _mounts(root: Path) -> list[_Mount]:
    """Return where the hierarchies are mounted."""
    found = []
    for line in _read(root / "proc/self/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        fields, kind = before.split(), after.split()
        if len(fields) < 5 or len(kind) < 3 or kind[0] not in ("cgroup", "cgroup2"):
            continue
        folder = root / fields[4].replace("\\040", " ").lstrip("/")
        names = [V2] if kind[0] == "cgroup2" else [one for one in kind[2].split(",") if one in ("cpu", "cpuset")]
        found += [_Mount(name, fields[3], folder) for name in names]
    return found or [_Mount(name, "/", root / folder) for name, folder in USUAL]


def _upwards(mount: _Mount, group: str) -> Iterator[Path]:
    """Yield the folders of a group and of those around it, the innermost first; what the mount does not show is left out."""
    shown = mount.shows.rstrip("/")
    inside = group.removeprefix(shown) if group == shown or group.startswith(f"{shown}/") else group
    parts = [part for part in inside.split("/") if part not in ("", ".", "..")]
    for depth in range(len(parts), -1, -1):
        yield mount.folder.joinpath(*parts[:depth])


def _quota(folder: Path) -> float | None:
    """Return the processors' worth of time of one group, None where it has no limit of its own."""
    words = _read(folder / "cpu.max").split()
    if not words:
        words = [_read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")]
    try:
        quota, period = int(words[0]), int(words[1])
    except (ValueError, IndexError):  # `max`, or no such file
        return None
    return quota / period if quota > 0 and period > 0 else None


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""
