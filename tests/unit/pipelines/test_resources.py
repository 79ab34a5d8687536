"""Tasks at the same time: of the cores and the memory that are ours and free."""

import json

import pytest

from components.shared.runtime import machine
from pipelines.local.resources import TASK_MEMORY, default_slots, peak_memory, slots_for

GIB = 1 << 30


@pytest.mark.parametrize(
    ("cores", "free", "slots"),
    [(0.5, 0.5, 2), (1, 1, 2), (2, 2, 3), (4, 4, 3), (8, 8, 4), (64, 64, 32), (64, 20, 10), (2, 1, 3)],
)
def test_slots_are_a_pair_of_free_cores_each_and_few_cores_take_cognates_variants(cores, free, slots):
    assert slots_for(cores, free, 1000 * GIB, GIB) == slots


@pytest.mark.parametrize(("gib", "slots"), [(0, 1), (1.5, 1), (2.5, 2), (100, 4)])
def test_there_are_never_more_slots_than_memory_and_always_one(gib, slots):
    assert slots_for(8, 8, int(gib * GIB), GIB) == slots


def test_what_a_task_took_in_an_earlier_run_of_the_profile_counts(tmp_path, monkeypatch):
    for name, profile, peak in (
        ("old", "tiny", 9 * GIB),
        ("new", "tiny", 2 * GIB),
        ("other", "full", 50 * GIB),
    ):
        task = tmp_path / name / "tasks" / "bitnet"
        task.mkdir(parents=True)
        (tmp_path / name / "run.json").write_text(
            json.dumps({"name": name, "profile": profile, "started": {"old": 1, "new": 2, "other": 3}[name]})
        )
        status = {
            "task": "bitnet",
            "component": "bitnet",
            "phase": "bitnet",
            "status": "succeeded",
            "peak_memory_bytes": peak,
        }
        (task / "status.json").write_text(json.dumps(status))
    assert peak_memory(tmp_path, "tiny") == {"bitnet": 2 * GIB}
    monkeypatch.setattr(machine, "cores", lambda: 2.0)
    monkeypatch.setattr(machine, "memory", lambda: machine.Memory(16 * GIB, 5 * GIB))
    assert default_slots(tmp_path, "tiny") == 2 and default_slots(tmp_path, "full") == 1
    assert default_slots(tmp_path, "micro") == min(3, 5 * GIB // TASK_MEMORY)


def test_load_decides_only_where_cores_are_many(tmp_path, monkeypatch):
    looks = []
    monkeypatch.setattr(machine, "memory", lambda: machine.Memory(999 * GIB, 999 * GIB))
    monkeypatch.setattr(machine, "free_cores", lambda: looks.append(1) or 10.0)
    for cores, slots in ((2.0, 3), (16.0, 5)):
        monkeypatch.setattr(machine, "cores", lambda cores=cores: cores)
        assert default_slots(tmp_path, "tiny") == slots
    assert len(looks) == 1
