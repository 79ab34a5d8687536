"""The report's pictures of a search, and how long its workers waited."""

import pytest

from pipelines.report import merging
from pipelines.report.records import Phase, Task


def worker(round: int, index: int, started: float, finished: float) -> Task:
    name = f"evomerge-round-{round}-worker-{index + 1}"
    return Task({"task": name, "step": "worker", "started": started, "finished": finished}, {})


def test_workers_wait_for_slower_ones_and_for_the_selection() -> None:
    select = Task(
        {"task": "evomerge-round-1-selection", "step": "select", "started": 10.0, "finished": 12.0}, {}
    )
    phase = Phase(
        "evomerge",
        [
            worker(1, 0, 0.0, 10.0),
            worker(1, 1, 0.0, 6.0),
            select,
            worker(2, 0, 12.0, 20.0),
            worker(2, 1, 12.0, 20.0),
        ],
    )
    waited, had = merging.idle(phase) or (None, None)
    assert had == 40.0 and waited == pytest.approx(4 + 2 * 2)


def test_a_phase_without_workers_has_no_waiting() -> None:
    assert (
        merging.idle(Phase("evomerge", [Task({"task": "evomerge", "started": 1.0, "finished": 2.0}, {})]))
        is None
    )


def test_the_front_names_every_task_and_marks_the_champion() -> None:
    members = [
        {"genome": "aa", "method": "ties", "scores": {"copy": 0.5, "sort": 0.9}},
        {"genome": "bb", "method": "featcal", "scores": {"copy": 0.7, "sort": 0.1}},
    ]
    picture = merging.front(members, "bb")
    assert picture.startswith("<svg")
    assert ">copy<" in picture and ">sort<" in picture and "champion: featcal" in picture
    assert "champion" not in merging.front(members, "cc")


def test_the_recipe_shows_every_parent_and_every_run_of_layers() -> None:
    shares = {
        "groups": ["layers 0 to 1", "layer 2", "embedding"],
        "parents": {"a": [1, 0.5, 0], "b": [0, 0.5, 1]},
    }
    picture = merging.weights(shares)
    assert all(f">{text}<" in picture for text in ("layers 0 to 1", "layer 2", "embedding", "a", "b"))
