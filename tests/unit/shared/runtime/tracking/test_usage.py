"""What a process uses while it works: looked at beside the work, kept with it, and over when the work is."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from components.shared.runtime.tracking.usage import Usage, look


def test_it_looks_until_the_work_is_over_and_keeps_what_it_logs(tmp_path: Path) -> None:
    logged: list[tuple[float, int]] = []
    usage = Usage(lambda found, step: logged.append((found["system/cpu_utilization_percentage"], step)), tmp_path,
                  every=0.01)  # fmt: skip
    deadline = time.monotonic() + 60
    with pytest.raises(KeyError), usage:
        while len(usage.lines) < 3 and time.monotonic() < deadline:
            sum(range(10_000))
        raise KeyError
    assert len(logged) == len(usage.lines) >= 3
    assert all(cpu >= 0 for cpu, _ in logged) and any(cpu > 0 for cpu, _ in logged)
    assert not [thread for thread in threading.enumerate() if thread.name == "usage"]


def test_a_look_says_what_is_in_use_of_memory_and_disk(tmp_path: Path) -> None:
    found = look(tmp_path)
    assert 0 < found["system/disk_usage_percentage"] <= 100
    assert 1 < found["system/memory_usage_megabytes"] < 1e6
