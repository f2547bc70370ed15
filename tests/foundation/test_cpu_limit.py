"""A container with less processor time than its host is another machine; a machine without limits keeps its id."""

import os

import pytest

from efflab import run
from efflab.foundation import machine
from efflab.foundation.cpu_limit import count, cpu_limit
from efflab.foundation.machine import fingerprint, machine_id

V2 = "31 23 0:28 {shows} /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = (
    "32 31 0:29 {shows} /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
    "33 31 0:30 {shows} /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n"
    "34 31 0:31 {shows} /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
    "35 31 0:32 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
)
CPU, SET = "sys/fs/cgroup/cpu,cpuacct", "sys/fs/cgroup/cpuset"


def made_up(root, groups=None, mounts=None, **files):
    """Write files of a made-up Linux; the names of `files` have __ for /."""
    told = {"proc/self/cgroup": groups, "proc/self/mountinfo": mounts} | files
    for name, text in told.items():
        if text is not None:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
    return root


def quota(folder, value, period="100000"):
    return {f"{folder}/cpu.cfs_quota_us": f"{value}\n", f"{folder}/cpu.cfs_period_us": f"{period}\n"}


@pytest.mark.parametrize(
    ("groups", "mounts", "files", "processors", "allowed"),
    [
        # v2: in a container with a namespace of its own the group is the mount's root
        ("0::/\n", V2.format(shows="/"), {"sys/fs/cgroup/cpu.max": "200000 100000\n"}, 2.0, None),
        ("0::/\n", V2.format(shows="/"), {"sys/fs/cgroup/cpu.max": "max 100000\n"}, None, None),
        ("0::/\n", V2.format(shows="/"), {}, None, None),
        # nested: the tightest of the groups around it holds
        (
            "0::/kubepods/pod1/box\n", V2.format(shows="/"),
            {"sys/fs/cgroup/kubepods/pod1/box/cpu.max": "max 100000", "sys/fs/cgroup/kubepods/pod1/cpu.max": "150000 100000",
             "sys/fs/cgroup/kubepods/cpu.max": "800000 100000",
             "sys/fs/cgroup/kubepods/pod1/box/cpuset.cpus.effective": "0-1,4\n", "sys/fs/cgroup/cpuset.cpus.effective": "0-7"},
            1.5, "0-1,4",
        ),
        # a group of another branch does not
        ("0::/a\n", V2.format(shows="/"), {"sys/fs/cgroup/b/cpu.max": "1000 100000"}, None, None),
        # a process that was moved out of its namespace
        ("0::/../../b\n", V2.format(shows="/"), {"sys/fs/cgroup/cpu.max": "300000 100000"}, 3.0, None),
        # the mount shows the container's own group, /proc tells the host's path
        ("0::/docker/1/x\n", V2.format(shows="/docker/1"), {"sys/fs/cgroup/x/cpu.max": "50000 100000"}, 0.5, None),
        ("0::/docker/12\n", V2.format(shows="/docker/1"), {"sys/fs/cgroup/cpu.max": "50000 100000"}, 0.5, None),
        # v1, and both beside each other
        ("4:cpu,cpuacct:/docker/1\n3:cpuset:/docker/1\n0::/\n", V1.format(shows="/docker/1"),
         {**quota(CPU, 250000), f"{SET}/cpuset.cpus": "2-3\n"}, 2.5, "2-3"),
        ("4:cpu,cpuacct:/a/b\n", V1.format(shows="/"), {**quota(f"{CPU}/a", 100000), **quota(f"{CPU}/a/b", -1)}, 1.0, None),
        ("4:cpu,cpuacct:/a\n", V1.format(shows="/"), quota(f"{CPU}/a", -1), None, None),
        ("4:cpu,cpuacct:/a\n", V1.format(shows="/"), quota(f"{CPU}/a", 100000, "0"), None, None),
        ("4:memory:/a\n3:cpu,cpuacct:/\n", V1.format(shows="/"), quota(f"{CPU}/a", 100000), None, None),
        ("2:cpuset:/\n", V1.format(shows="/"), {f"{SET}/cpuset.effective_cpus": "0", f"{SET}/cpuset.cpus": "0-7"}, None, "0"),
        # systems that do not tell where the groups are mounted, or which they are
        ("0::/a\n", None, {"sys/fs/cgroup/a/cpu.max": "100000 100000"}, 1.0, None),
        (None, None, {"sys/fs/cgroup/cpu.max": "100000 50000"}, 2.0, None),
        ("1:cpu:/a\n", None, quota("sys/fs/cgroup/cpu/a", 100000), 1.0, None),
        (None, None, {}, None, None),
        # what cannot be read is no limit
        ("nonsense\n::\n", "a b - cgroup\n", {"sys/fs/cgroup/cpu.max": "many few", "sys/fs/cgroup/cpuset.cpus": "all"}, None, None),
        ("0::/\n", V2.format(shows="/"), {"sys/fs/cgroup/cpu.max": "100000"}, None, None),
    ],
)  # fmt: skip
def test_limits_are_read_from_every_kind_of_group(tmp_path, groups, mounts, files, processors, allowed):
    assert cpu_limit(made_up(tmp_path, groups, mounts, **files)) == (processors, allowed)


def test_lists_of_processors_are_counted():
    assert [count(one) for one in ("0", "0-3", "0-3,8", "1,1", "", None, "x", "3-1")] == [1, 4, 5, 1, 0, 0, 0, 0]


@pytest.fixture
def limited(tmp_path, monkeypatch):
    """Return a function that gives the fingerprint in a container on eight processors with such files."""
    monkeypatch.setattr(machine, "ROOT", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)

    def found(**files):
        made_up(
            tmp_path, "0::/\n", V2.format(shows="/"), **{f"sys/fs/cgroup/{name}": text for name, text in files.items()}
        )
        machine._fingerprint.cache_clear()
        return fingerprint()

    yield found
    machine._fingerprint.cache_clear()


def test_a_limited_container_is_another_machine(limited):
    free = limited()
    assert not {"cpu_limit", "cpus_allowed"} & free.keys()
    two = limited(**{"cpu.max": "200000 100000"})
    assert two["cpu_limit"] == 2.0
    assert run.processors() == 2
    half = limited(**{"cpu.max": "50000 100000"})
    assert run.processors() == 1
    assert len({machine_id(one) for one in (free, two, half)}) == 3
    assert machine_id(two) == machine_id({**two, "kernel": "other"})


def test_what_does_not_limit_leaves_the_id_as_it_is(limited):
    free = machine_id(limited())
    for told in ("max 100000", "800000 100000", "1600000 100000"):
        assert machine_id(limited(**{"cpu.max": told})) == free
    assert limited(**{"cpuset.cpus.effective": "0-7"}) == limited()
    assert run.processors() == 8


def test_processors_that_may_not_be_used_are_not_counted_even_if_the_affinity_holds_them(limited):
    free, pinned = limited(), limited(**{"cpuset.cpus.effective": "0-1"})
    assert (pinned["threads_allowed"], pinned["cpus_allowed"]) == (2, "0-1")
    assert run.processors() == 2
    assert machine_id(pinned) != machine_id(free)
    other = limited(**{"cpuset.cpus.effective": "4-5"})
    assert machine_id(other) == machine_id(pinned)


def test_the_id_of_a_machine_without_limits_is_what_it_was():
    told = {
        "cpu": "Xeon 9", "flags": ["avx2"], "cores": 2, "threads": 4, "threads_allowed": 4, "memory_gib": 16,
        "system": "Linux", "python": "3.11.7", "gpus": [], "versions": {"torch": "2.13.0", "efflab": "0.1.0"},
    }  # fmt: skip
    assert machine_id(told) == "3eb10c991f66"
    assert machine_id({**told, "cpu_limit": None}) == machine_id(told)
