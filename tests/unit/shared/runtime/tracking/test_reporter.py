"""What a phase tells, where it arrives, and that nothing that goes wrong there is the phase's affair."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from components.shared.runtime.errors import Interrupted, StoreError
from components.shared.runtime.store.uri import open_store
from components.shared.runtime.tracking import chunks, outlets
from components.shared.runtime.tracking import reporter as reporting
from components.shared.runtime.tracking.reporter import Reporter
from tests.faulty_api import FaultyApi, serving


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FORGE_RUN_ROOT", "FORGE_API_URL", "FORGE_RUN_TOKEN", "KFP_POD_UID", "KFP_POD_NAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FORGE_TASK", "cognate-trunk")


@pytest.fixture
def root(tmp_path: Path) -> str:
    return str(tmp_path / "store" / "run")


def told(root: str) -> list[dict[str, Any]]:
    """Everything in the store of a run: producers one behind the other, their chunks in order."""
    store = open_store(f"{root}/{chunks.FOLDER}")
    return [line for entry in store.list() for line in chunks.decode(store.get(entry.key))]


def line(stage: str, step: int, **metrics: float) -> dict[str, Any]:
    return {"time": time.time(), "stage": stage, "step": step, "total": 9, "metrics": metrics, "eta": 1.0}


def wait(until: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_run_is_told_from_its_start_to_its_end(root: str, capsys: Any) -> None:
    with Reporter("cognate", print, every=60) as report:
        report.open(root, "r", "trunk")
        report.trying(1)
        report.progress(line("fit", 3, loss=0.5))
        print("hello")
        report.progress(line("fit", 9, loss=float("nan")), True)
        report.measured({"score": 0.6}, "result")
        report.ended(0)
    lines = told(root)
    assert [item["n"] for item in lines] == list(range(1, len(lines) + 1))
    kinds = [item["kind"] for item in lines]
    assert kinds[0] == "state" and kinds[-1] == "state"
    assert [item["data"]["values"] for item in lines if item["kind"] == "metric"] == [
        {"loss": 0.5}, {"loss": None}, {"score": 0.6},
    ]  # fmt: skip
    assert [item["data"]["step"] for item in lines if item["kind"] == "progress"][-1] == 9
    assert ["hello"] in [item["data"].get("lines") for item in lines]
    end = lines[-1]["data"]
    assert (end["state"], end["exit_code"], end["phase"], end["step"]) == ("succeeded", 0, "cognate", "trunk")
    assert end["seconds"] >= 0 and end["peak_memory_bytes"] > 0
    assert {item["attempt"] for item in lines} == {1}
    assert "hello" in capsys.readouterr().out


def test_a_failure_and_a_stop_are_told_apart(root: str) -> None:
    for error, code in ((StoreError("the disk is full", fix="free some"), 5), (Interrupted("stopped"), 75)):
        with Reporter("cognate", print) as report:
            report.open(root, "r")
            report.trying(report.attempt + 1)
            report.failed(error, code)
            report.ended(code)
    lines = told(root)
    assert {(item["attempt"], item["data"]["state"]) for item in lines if item["kind"] == "state"} == {
        (1, "running"), (1, "failed"), (2, "running"), (2, "interrupted"),
    }  # fmt: skip
    [error_line] = [item["data"] for item in lines if item["kind"] == "error"]
    assert (error_line["what"], error_line["fix"], error_line["exit_code"]) == (
        "the disk is full",
        "free some",
        5,
    )
    newest = json.loads(open_store(root).get("progress/cognate-trunk.json"))
    assert (newest["note"], newest["attempt"]) == ("stopped.", 2)


def test_every_process_numbers_its_own(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KFP_POD_UID", "uid-1")
    for _ in range(2):  # a container that starts again in its pod
        with Reporter("cognate", print) as report:
            report.open(root, "r")
            report.trying(report.attempt + 1)
    names = {chunks.parts(entry.key)[1] for entry in open_store(f"{root}/events").list()}  # type: ignore[index]
    assert len(names) == 2 and all(name.startswith("uid-1-") for name in names)


def test_a_task_can_be_followed_in_s3(s3_uri: str) -> None:
    root = f"{s3_uri}/run"
    with Reporter("cognate", print) as report:
        report.open(root, "r")
        report.trying(1)
        report.progress(line("pretrain", 3))
        report.note("going on")
        report.progress(line("pretrain", 9), True)
    found = json.loads(open_store(f"{root}/progress").get("cognate-trunk.json"))
    assert (found["step"], found["note"], found["attempt"]) == (9, "going on", 1)
    assert found["updated"] <= time.time() and found["host"]
    assert told(root)[0]["kind"] == "state"


def test_on_a_laptop_nothing_is_watched_and_no_thread_started() -> None:
    before = set(threading.enumerate())
    with Reporter("cognate", print) as report:
        report.open("", "r")
        report.trying(1)
        report.progress(line("fit", 1, loss=1.0))
        report.ended(0)
        assert set(threading.enumerate()) <= before
        assert report.spool.bytes == 0
        assert "write" not in vars(sys.stdout)


def test_a_store_that_is_away_is_said_once_and_ends_nothing(
    s3_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    said: list[str] = []
    with Reporter("toy", said.append, every=0.01) as report:
        report.open(f"{s3_uri}/run", "r")
        for attempt in range(3):
            report.trying(attempt)
    assert len(said) == 1 and "events are not written" in said[0]


class Hangs:
    """A store that never answers."""

    def __init__(self, released: threading.Event) -> None:
        self.released = released

    def put(self, key: str, data: bytes) -> None:
        self.released.wait(60)

    def get(self, key: str) -> bytes:
        raise StoreError("it is away")


def test_a_store_that_hangs_costs_the_end_its_patience_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()
    monkeypatch.setattr(outlets, "open_store", lambda root: Hangs(released))
    monkeypatch.setattr(reporting, "PATIENCE", 0.3)
    began = time.monotonic()
    with Reporter("toy", print) as report:
        report.open("s3://x/run", "r")
        for step in range(2000):
            report.progress(line("fit", step, loss=1.0))
            print("a line")
    assert 0.3 <= time.monotonic() - began < 5
    assert report.spool.bytes < 2 << 20
    released.set()


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyApi]:
    """An API; `how` it answers."""
    with serving() as server:
        monkeypatch.setenv("FORGE_API_URL", f"{server.url}/base")
        monkeypatch.setenv("FORGE_RUN_TOKEN", "secret")
        yield server


def test_the_api_gets_what_the_store_gets(api: FaultyApi, root: str) -> None:
    with Reporter("cognate", print, every=60) as report:
        report.open(root, "run/1")
        report.trying(1)
        until = time.monotonic() + 20
        while not api.asked and time.monotonic() < until:
            time.sleep(0.01)
    [(path, authorization, body), *_] = api.asked
    assert path == "/base/events/run%2F1" and authorization == "Bearer secret"
    assert (body["task"], body["process"]) == ("cognate-trunk", report.process)
    assert body["lines"] == told(root)[: len(body["lines"])]


def test_without_a_store_the_api_gets_all(api: FaultyApi) -> None:
    with Reporter("cognate", print) as report:
        report.open("", "r")
        report.trying(1)
        for number in range(200):
            report.measured({"loss": number}, "fit", number)
        report.ended(0)
    numbers = [item["n"] for _, _, body in api.asked for item in body["lines"]]
    assert numbers == list(range(1, 203))


@pytest.mark.parametrize("how", ["hang", "reset", 500, 401])
def test_an_api_that_does_not_take_it_costs_nothing_where_there_is_a_store(
    api: FaultyApi, root: str, how: Any, capsys: Any
) -> None:
    api.how = how
    began = time.monotonic()
    with Reporter("cognate", print, every=0.02) as report:
        report.open(root, "r")
        report.trying(1)
        for number in range(50):
            report.measured({"loss": number}, "fit", number)
        report.ended(0)
    assert time.monotonic() - began < 3  # a hanging API is given four seconds, in its own thread
    assert [item["n"] for item in told(root)] == list(range(1, 53))
    assert capsys.readouterr().out.count("events are not sent") <= 1


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_chunk_that_the_api_refuses_is_said_once_and_stops_no_other(
    api: FaultyApi, root: str, status: int, capsys: Any
) -> None:
    api.how = status
    with Reporter("cognate", print, every=0.02) as report:
        report.open("", "r")
        for step in range(3):
            report.measured({"loss": 1.0}, "fit", step)
            wait(lambda step=step: len(api.asked) > step)
        wait(lambda: not report.outlets[0].backlog)
        api.how = 202
        report.ended(0)
    numbers = [item["n"] for _, _, body in api.asked for item in body["lines"]]
    assert numbers == sorted(set(numbers))  # none was sent again
    assert api.asked[-1][2]["lines"][-1]["kind"] == "state"
    assert capsys.readouterr().out.count(f"({status}): it is not taken") == 1


def test_a_chunk_that_the_api_refuses_is_kept_for_a_store_that_is_away(
    api: FaultyApi, tmp_path: Path
) -> None:
    api.how = 422
    away = tmp_path / "store"
    away.write_text("a file, where the folder would be")
    with Reporter("cognate", print, every=0.02) as report:
        report.open(str(away), "r")
        for step in range(outlets.WAITING + 8):
            report.measured({"loss": 1.0}, "fit", step)
            report._hurry()
            time.sleep(0.03)
        away.unlink()
        report.ended(0)
    told_steps = [item["data"]["step"] for item in told(str(away)) if item["kind"] == "metric"]
    assert told_steps == list(range(outlets.WAITING + 8))


def test_what_the_api_has_taken_need_not_wait_for_a_store_for_ever(
    api: FaultyApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = threading.Event()
    monkeypatch.setattr(outlets, "open_store", lambda root: Hangs(released))
    monkeypatch.setattr(reporting, "PATIENCE", 0.5)
    with Reporter("cognate", print, every=0.001) as report:
        report.open("s3://x/run", "r")
        until = time.monotonic() + 20
        number = 0
        while len(api.asked) < 2 * outlets.WAITING and time.monotonic() < until:
            report.measured({"loss": 1.0}, "fit", number := number + 1)
            time.sleep(0.001)
        assert len(api.asked) >= 2 * outlets.WAITING
        assert len(report.outlets[0].backlog) <= outlets.WAITING + 1
    numbers = [item["n"] for _, _, body in api.asked for item in body["lines"]]
    assert numbers == list(range(1, len(numbers) + 1))
    released.set()


KILLED = """
import sys, os, time
from components.shared.runtime.tracking.reporter import Reporter
from tests.faulty_api import FaultyApi, serving
with Reporter("toy", print, every=0.01) as report:
    report.open(sys.argv[1], "r")
    report.trying(report.attempt + 1)
    number = 0
    while True:
        report.measured({"loss": 1.0}, "fit", number := number + 1)
        print("a line", flush=True)
"""


def test_killed_at_any_moment_it_leaves_whole_chunks_and_the_next_attempt_counts_on(root: str) -> None:
    for kill in range(2):
        process = subprocess.Popen([sys.executable, "-c", KILLED, root], stdout=subprocess.DEVNULL)
        until = time.monotonic() + 60
        while time.monotonic() < until:
            keys = [chunks.parts(entry.key) or ("", "", 0) for entry in open_store(f"{root}/events").list()]
            if len({name for _, name, _ in keys}) > kill and len(keys) > 8 * (kill + 1):
                break
            time.sleep(0.02)
        process.kill()
        process.wait()
    by_process: dict[str, list[int]] = {}
    store = open_store(f"{root}/events")
    attempts = set()
    for entry in store.list():
        _, process_name, _ = chunks.parts(entry.key) or ("", "", 0)
        lines = chunks.decode(store.get(entry.key))
        by_process.setdefault(process_name, []).extend(item["n"] for item in lines)
        attempts |= {item["attempt"] for item in lines}
    assert len(by_process) == 2 and attempts == {1, 2}
    for numbers in by_process.values():
        assert numbers == list(range(1, len(numbers) + 1))
