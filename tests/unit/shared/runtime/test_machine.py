"""What of a machine is ours: limits of control groups of both versions, at any depth, and what others leave."""

from __future__ import annotations

import importlib
import os
from pathlib import Path

import pytest

import components.shared.runtime
from components.shared.runtime import machine

GIB = 1 << 30
V2 = "31 23 0:28 / /sys/fs/cgroup rw shared:9 - cgroup2 cgroup rw,nsdelegate"
V1_CPU = "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct"
V1_MEMORY = "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A machine of 16 GiB, 12 of them available, without control groups."""
    kib = GIB // 1024
    write(
        tmp_path / "proc/meminfo",
        f"MemTotal: {16 * kib} kB\nMemFree: {kib} kB\nMemAvailable: {12 * kib} kB\n",
    )
    return tmp_path


def write(path: Path, text: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n")


def within(root: Path, own: str, *mounts: str, **files: object) -> None:
    """Put this process into the groups that /proc/self/cgroup would tell. Files are below /sys/fs/cgroup."""
    write(root / "proc/self/cgroup", own)
    write(root / "proc/self/mountinfo", "22 1 8:1 / / rw - ext4 /dev/vda rw\n" + "\n".join(mounts))
    for name, text in files.items():
        write(root / "sys/fs/cgroup" / name, text)


def cores(root: Path) -> float:
    return machine.cores(root, affinity=range(8))


def test_without_control_groups_the_affinity_and_the_available_memory_count(root):
    assert cores(root) == 8
    assert machine.memory(root) == machine.Memory(16 * GIB, 12 * GIB)


def test_a_quota_of_version_2_counts_wherever_above_us_it_is(root):
    files = {
        "pod/cpu.max": "150000 100000",
        "pod/job/cpu.max": "max 100000",
        "pod/job/task/cpu.max": "400000 100000",
    }
    within(root, "0::/pod/job/task", V2, **files)
    assert cores(root) == 1.5


def test_a_quota_of_version_1_counts_and_minus_one_is_none(root):
    files = {"cpu,cpuacct/a/cpu.cfs_quota_us": 50000, "cpu,cpuacct/a/cpu.cfs_period_us": 100000}
    files |= {"cpu,cpuacct/a/b/cpu.cfs_quota_us": -1, "cpu,cpuacct/a/b/cpu.cfs_period_us": 100000}
    within(root, "4:cpu,cpuacct:/a/b\n0::/", V1_CPU, **files)
    assert cores(root) == 0.5


def test_memory_of_version_2_is_the_tightest_limit_less_what_cannot_be_given_up(root):
    files = {
        "a/memory.max": 8 * GIB,
        "a/memory.current": 6 * GIB,
        "a/memory.stat": f"anon 1\ninactive_file {GIB}",
    }
    files |= {"a/b/memory.max": "max", "a/b/memory.high": 7 * GIB, "a/b/memory.current": GIB}
    within(root, "0::/a/b", V2, **files)
    assert machine.memory(root) == machine.Memory(7 * GIB, 3 * GIB)


def test_memory_of_version_1_counts_with_what_groups_below_have_in_cache(root):
    files = {"memory/a/memory.limit_in_bytes": 4 * GIB, "memory/a/memory.usage_in_bytes": 3 * GIB}
    files |= {"memory/a/memory.stat": f"inactive_file 0\ntotal_inactive_file {2 * GIB}"}
    files |= {"memory/memory.limit_in_bytes": 9223372036854771712, "memory/memory.usage_in_bytes": 15 * GIB}
    within(root, "3:memory:/a", V1_MEMORY, **files)
    assert machine.memory(root) == machine.Memory(4 * GIB, 3 * GIB)


def test_a_group_that_is_over_its_limit_has_nothing_free(root):
    within(root, "0::/", V2, **{"memory.max": GIB, "memory.current": 2 * GIB})
    assert machine.memory(root) == machine.Memory(GIB, 0)


@pytest.mark.parametrize(
    ("own", "begins"),
    [
        ("0::/docker/4f/job", "/docker/4f"),  # the mount shows the middle of the tree
        ("0::/docker/4f", "/"),  # the container's own group is mounted, the path is the machine's
        ("0::/../other", "/"),  # a namespace that hides where we are
        ("0::/", "/../.."),
    ],
)
def test_in_a_container_the_group_at_the_mount_counts_whatever_the_path_says(root, own, begins):
    mount = V2.replace("0:28 /", f"0:28 {begins}")
    within(root, own, mount, **{"cpu.max": "200000 100000", "memory.max": GIB, "memory.current": 0})
    assert cores(root) == 2 and machine.memory(root).limit == GIB


def test_a_hybrid_tree_counts_with_both_versions(root):
    unified = V2.replace("/sys/fs/cgroup", "/sys/fs/cgroup/unified")
    files = {"cpu,cpuacct/cpu.cfs_quota_us": 300000, "cpu,cpuacct/cpu.cfs_period_us": 100000}
    files |= {"unified/x/cpu.max": "200000 100000"}
    within(root, "4:cpu,cpuacct:/\n0::/x", V1_CPU, unified, **files)
    assert cores(root) == 2


def test_what_cannot_be_read_or_makes_no_sense_limits_nothing(root):
    within(root, "0::/a", V2, **{"a/cpu.max": "", "a/memory.max": "much", "a/memory.current": ""})
    assert cores(root) == 8 and machine.memory(root).limit == 16 * GIB


def test_a_machine_without_proc_has_all_of_itself(tmp_path):
    assert machine.cores(tmp_path, affinity=[0, 1]) == 2
    assert machine.memory(tmp_path).free == machine.memory(tmp_path).limit > 0
    assert machine.free_cores(tmp_path, affinity=[0, 1]) == 2


def test_others_leave_the_idle_part_of_our_cores_and_nice_work_gives_way():
    before = {0: (100, 1000), 1: (0, 1000)}
    assert machine.idle_share(before, {0: (110, 1010), 1: (0, 1010)}) == 0.5
    assert machine.idle_share(before, before) == 1.0
    assert machine.idle_share({}, {}) == 1.0


@pytest.mark.parametrize(("idle", "free"), [(10, 8), (7.5, 6), (0, 4)])
def test_free_cores_are_the_idle_ones_but_half_of_all_at_least(root, monkeypatch, idle, free):
    def stat(at: int) -> str:
        rows = [
            f"cpu{core} {1000 + at * (40 - 4 * idle):g} 0 0 {4 * idle * at:g} 0 0 0 0 0 0"
            for core in range(8)
        ]
        return "\n".join(["cpu 1 2 3 4 5 6 7 8 9 10", *rows, "cpu9 5 5 5 5 5 5 5 5 0 0", "intr 7"])

    write(root / "proc/stat", stat(0))
    monkeypatch.setattr(machine.time, "sleep", lambda seconds: write(root / "proc/stat", stat(1)))
    assert machine.free_cores(root, affinity=range(8)) == pytest.approx(free)


def test_this_machine_can_be_read():
    assert machine.cores() > 0 and 0 < machine.free_cores() <= machine.cores()
    assert 0 <= machine.memory().free <= machine.memory().limit


def test_openmp_may_not_let_the_load_decide_how_many_threads_compute(monkeypatch):
    """Teams that shrink with the load would change the last bits of sums, and so an artifact's digest."""
    monkeypatch.setenv("OMP_DYNAMIC", "true")
    importlib.reload(components.shared.runtime)
    assert os.environ["OMP_DYNAMIC"] == "false"


@pytest.mark.parametrize(
    ("cores", "told", "threads"), [(1.5, None, "2"), (1.5, "7", "7"), (10**6, None, None)]
)
def test_libraries_that_know_no_quota_are_told_of_it_but_not_against_the_users_word(
    monkeypatch, cores, told, threads
):
    monkeypatch.setattr(machine, "cores", lambda: cores)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setenv("OMP_NUM_THREADS", told or "")
    if told is None:
        monkeypatch.delenv("OMP_NUM_THREADS")
    importlib.reload(components.shared.runtime)
    assert os.environ.get("OMP_NUM_THREADS") == threads
