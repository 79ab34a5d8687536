"""How much of this machine is ours: cores and memory, as the kernel would really give them to us.

A container, a pod or a `taskset` has less than the machine, and others are at work on it. Asked are the affinity, the
limits of all control groups from ours up to the root (version 1 and 2, both mounts of a hybrid), what is in use in each,
and how busy others keep the cores now.

What is found decides how many processes run side by side (pipelines/local/resources.py), and nothing else: the threads that
a phase computes with are a setting, as another number changes the last bits of its sums, and no result may depend on load.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

ROOT = Path("/")
SAMPLE_SECONDS = 0.1
"""So long the cores are watched. The kernel counts in hundredths of a second."""


@dataclass(frozen=True)
class Memory:
    """Bytes of memory.

    :param limit: that processes here can have at most, all together.
    :param free: of those, what can be had now without pushing anyone out.
    """

    limit: int
    free: int


def cores(root: Path = ROOT, affinity: Iterable[int] | None = None) -> float:
    """CPU cores that processes here can keep busy: those of the affinity, or the quota of a control group.

    :param root: of a file system that has /proc and /sys.
    :param affinity: numbers of the cores that may be used; None for those of this process.
    """
    return min([float(len(_affinity(affinity))), *_quotas(root)])


def free_cores(root: Path = ROOT, affinity: Iterable[int] | None = None) -> float:
    """Cores that others leave us now, out of `cores`: the idle ones, but half of all at least.

    The scheduler shares a busy core out evenly; half of a machine beside others is fair, and can be had.
    Work of others that was started with `nice` gives way, and counts as idle.
    """
    ours = sorted(_affinity(affinity))
    before = _ticks(root, ours)
    time.sleep(SAMPLE_SECONDS)
    idle = idle_share(before, _ticks(root, ours)) * len(ours)
    return min([max(idle, len(ours) / 2), *_quotas(root)])


def memory(root: Path = ROOT) -> Memory:
    """Memory of this machine, or of the tightest control group around us."""
    total, available = _meminfo(root)
    limits, free = [total], [available]
    for limit, usage in _memory_groups(root):
        limits.append(limit)
        free.append(max(0, limit - usage))
    return Memory(min(limits), min(free))


def idle_share(before: dict[int, tuple[int, int]], after: dict[int, tuple[int, int]]) -> float:
    """Which part of the time between two looks the cores had nothing urgent to do; 1 where nothing is known.

    :param before: of each core, (ticks idle or given to `nice` work, ticks in all).
    """
    both = before.keys() & after.keys()
    passed = sum(after[core][1] - before[core][1] for core in both)
    return sum(after[core][0] - before[core][0] for core in both) / passed if passed > 0 else 1.0


def _affinity(given: Iterable[int] | None) -> set[int]:
    if given is not None:
        return set(given)
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))  # macOS


def _ticks(root: Path, ours: list[int]) -> dict[int, tuple[int, int]]:
    """Of each core of ours: (ticks idle, waiting for a disk, or of `nice` work; ticks in all), since the start."""
    found = {}
    for line in _lines(root / "proc/stat"):
        name, *numbers = line.split()
        if name.startswith("cpu") and name[3:].isdigit() and int(name[3:]) in ours:
            user, nice, system, idle, iowait, *others = map(int, numbers[:8])
            found[int(name[3:])] = (nice + idle + iowait, user + nice + system + idle + iowait + sum(others))
    return found


def _meminfo(root: Path) -> tuple[int, int]:
    """(all of it, what is available), bytes. Where there is no /proc, all of it is."""
    lines = dict(line.split(":", 1) for line in _lines(root / "proc/meminfo") if ":" in line)
    if "MemTotal" not in lines:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        return total, total
    total = int(lines["MemTotal"].split()[0]) * 1024
    available = lines.get("MemAvailable") or lines["MemFree"]
    return total, int(available.split()[0]) * 1024


# -- control groups


def _quotas(root: Path) -> Iterator[float]:
    """Cores that each group around us may use, of those that say so."""
    for folder in groups(root, "cpu"):
        # Version 2: "max 100000", "150000 100000".
        quota, _, period = _first(folder / "cpu.max").partition(" ")
        if not quota:
            quota, period = _first(folder / "cpu.cfs_quota_us"), _first(folder / "cpu.cfs_period_us")
        if quota.isdigit() and period.isdigit() and int(quota) and int(period):  # 1 without a limit has -1
            yield int(quota) / int(period)


def _memory_groups(root: Path) -> Iterator[tuple[int, int]]:
    """(limit, bytes that are in use and cannot be given up) of each group around us that has a limit."""
    for folder in groups(root, "memory"):
        limits = [_first(folder / name) for name in ("memory.max", "memory.high", "memory.limit_in_bytes")]
        usage = _first(folder / "memory.current") or _first(folder / "memory.usage_in_bytes")
        pairs = (line.split() for line in _lines(folder / "memory.stat"))
        stat = {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2}
        # Pages of files, not looked at lately.
        cache = stat.get("total_inactive_file", stat.get("inactive_file", 0))
        for limit in limits:
            if limit.isdigit():
                yield int(limit), max(0, int(usage or 0) - cache)


def groups(root: Path, controller: str) -> Iterator[Path]:
    """The folders of the control groups that this process is in, from its own up to the one at the mount.

    What a container sees is often the middle of a tree: the mount begins at a group of its own (`root` of mountinfo),
    while /proc/self/cgroup tells the path from the top; and where a namespace hides the top, it may tell `/../other`.
    """
    paths: dict[str, PurePosixPath] = {}
    for line in _lines(root / "proc/self/cgroup"):
        number, controllers, path = line.split(":", 2)
        for name in controllers.split(",") if number != "0" else [""]:
            paths[name] = PurePosixPath(path)
    for line in _lines(root / "proc/self/mountinfo"):
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        begins, mount = (PurePosixPath(part.replace("\\040", " ")) for part in before.split()[3:5])
        if kind == "cgroup2":
            own = paths.get("")
        elif kind == "cgroup" and controller in options.split()[-1].split(","):
            own = paths.get(controller)
        else:
            continue
        if own is not None:
            yield from _upwards(root / mount.relative_to("/"), own, begins)


def _upwards(mount: Path, path: PurePosixPath, begins: PurePosixPath) -> Iterator[Path]:
    inside = path.relative_to(begins) if path.is_relative_to(begins) else path.relative_to("/")
    if ".." in inside.parts or not (mount / inside).is_dir():
        inside = PurePosixPath(".")
    for level in (inside, *inside.parents):
        yield mount / level


def _lines(path: Path) -> list[str]:
    """Lines of a file of the kernel's; none where it is not there, or not for us to read."""
    try:
        return path.read_text().splitlines()
    except OSError:
        return []


def _first(path: Path) -> str:
    return next(iter(_lines(path)), "").strip()
