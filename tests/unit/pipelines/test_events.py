"""The log of events: what is written is read, whole, in order, by whoever comes, however the writer or the disk ended."""

import errno
import json
import os
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.shared.runtime.errors import InputError
from pipelines.runs import events
from pipelines.runs.events import Failure, LogLines, Metrics, Progress
from pipelines.runs.folder import RunFolder, RunStatus, TaskStatus
from pipelines.runs.log import EventLog, EventReader
from pipelines.runs.state import fold, read_state

SCHEMA = Path(events.__file__).with_name("events.schema.json")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run" / "events.jsonl"


def ids(path, after=0):
    return [event.id for event in EventReader(path, after).read()]


def one_of_each():
    return [
        RunStatus("run", "running", 1.0, parameters={"overrides": ["a=1"]}),
        TaskStatus("a", "cognate", "cognate", inputs={"model": ["artifacts/x"]}),
        Progress("course", 1, 2, None, 10),
        Metrics({"loss": float("nan"), "norm": 1.0}),
        LogLines(["a line", "ünïcode \x1b[31m"], end=7),
        Failure("it broke", exit_code=3),
    ]


def test_every_kind_of_event_is_read_as_it_was_written_and_fits_the_schema(path):
    log = EventLog(path, "run")
    for data in one_of_each():
        log.append(data, task="a", attempt=1, at=5.0)
    read = EventReader(path).read()
    assert [event.kind for event in read] == list(events.KINDS)
    assert read[3].data.values == {"loss": None, "norm": 1.0}
    assert [event.data for event in read if event.kind != "metric"] == [
        data for data in one_of_each() if not isinstance(data, Metrics)
    ]
    for line in path.read_text().splitlines():
        jsonschema.validate(json.loads(line), events.schema())


def test_the_committed_schema_is_the_one_of_the_code():
    assert json.loads(SCHEMA.read_text()) == events.schema(), (
        "forge events --schema > pipelines/runs/events.schema.json"
    )


@given(st.integers(0, 400))
def test_a_torn_last_line_is_no_event_and_the_next_writer_goes_on_behind_the_last_whole_one(
    tmp_path_factory, cut
):
    path = tmp_path_factory.mktemp("torn") / "events.jsonl"
    log = EventLog(path, "run")
    for number in range(4):
        log.append(Failure(f"number {number}"))
    log.close()
    text = path.read_bytes()
    path.write_bytes(text[: max(0, len(text) - cut)])
    whole = ids(path)
    assert whole == list(range(1, len(whole) + 1))
    reader = EventReader(path)
    reader.read()
    again = EventLog(path, "run")
    assert again.append(Failure("next")) == len(whole) + 1
    assert [event.data.what for event in reader.read()] == ["next"]
    assert ids(path) == [*whole, len(whole) + 1]


def test_a_last_line_that_a_crash_has_filled_with_zeros_is_cut_off(path):
    EventLog(path, "run").append(Failure("whole"))
    with path.open("ab") as file:
        file.write(b"\0" * 100_000 + b"\n")
    assert EventLog(path, "run").append(Failure("next")) == 2
    assert ids(path) == [1, 2]


def test_a_reader_goes_on_behind_the_id_that_it_knows_and_passes_over_what_it_does_not(path):
    log = EventLog(path, "run")
    for number in range(3):
        log.append(Failure(str(number)))
    with path.open("ab") as file:
        file.write(b'{"id":4,"time":1.0,"run":"run","kind":"weather","data":{}}\n')
        file.write(b'{"id":5,"time":1.0,"run":"run","kind":"error","data":{"what":"x","more":1},"new":2}\n')
    assert ids(path, after=2) == [3, 5]


def test_a_log_that_was_replaced_is_not_read_on_as_if_nothing_had_been(path):
    EventLog(path, "run").append(Failure("a long one" * 20))
    reader = EventReader(path)
    reader.read()
    path.write_bytes(b"")
    with pytest.raises(InputError, match="not the one"):
        reader.read()


def test_a_full_disk_loses_no_event_that_counts_and_leaves_no_half_line(path, monkeypatch):
    log = EventLog(path, "run")
    log.append(Failure("before"))
    write, full = os.pwrite, [True]

    def pwrite(file, data, at):
        if full[0]:
            write(file, data[:10], at)
            raise OSError(errno.ENOSPC, "no space")
        return write(file, data, at)

    monkeypatch.setattr(os, "pwrite", pwrite)
    assert log.append(Failure("meanwhile")) == 2 and log.written_id == 1
    assert ids(path) == [1]
    full[0] = False
    log.append(Failure("after"))
    assert [event.data.what for event in EventReader(path).read()] == ["before", "meanwhile", "after"]


def test_the_state_of_a_run_does_not_depend_on_where_the_reading_was_interrupted(path):
    log = EventLog(path, "run")
    for data in one_of_each():
        log.append(data, task="a")
    everything = EventReader(path).read()
    assert fold(everything) == read_state_of(path, everything, 3)


def read_state_of(path, everything, at):
    state = fold(everything[:at])
    for event in EventReader(path, after=state.last_id).read():
        state.apply(event)
    return state


def test_reading_does_not_make_a_run(tmp_path):
    folder = RunFolder(tmp_path / "none")
    with pytest.raises(FileNotFoundError):
        read_state(folder)
    assert not folder.path.exists()
