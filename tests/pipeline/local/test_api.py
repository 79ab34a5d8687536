"""Running from plain Python: plan, events, two runs at once, cancel, resume, listeners that are late, slow or broken."""

import asyncio
import json
import subprocess
import sys
import threading
import time

import pytest
from kfp import dsl

from components.shared.runtime.errors import ConfigError, InputError, LostRace
from pipelines import run, run_sync
from pipelines.local.execute import execute, start
from pipelines.local.plan import RunRequest
from pipelines.local.prepare import prepare
from pipelines.runs.events import KINDS, ErrorEvent, LogEvent, MetricEvent, ProgressEvent, RunEvent
from pipelines.runs.folder import RunFolder
from pipelines.runs.log import EventReader, follow
from pipelines.runs.state import fold, read_state
from tests.pipeline.local.test_endings import with_a_stop
from tests.pipeline.local.toy_pipelines import append, fail, run_code, toy, write


@dsl.pipeline
def greeting(text: str = "hello", mark: str = "!"):
    append(before=write(text=text).output, text=mark)


WORKING = """
line = {'time': time.time(), 'stage': 'course', 'step': 3, 'total': 4, 'metrics': {'loss': .5, 'norm': None}, 'eta': 9}
pathlib.Path(os.environ['FORGE_PROGRESS']).write_text(json.dumps(line) + '\\n')
print('one'); print('two', end='')
numbers = {'metrics': {'artifacts': [{'metadata': {'accuracy': .75}}]}}
pathlib.Path(given['outputs']['outputFile']).write_text(json.dumps({'artifacts': numbers}))
say('done')
"""


@dsl.pipeline
def working():
    run_code(code=WORKING)


@pytest.fixture
def plan(bench):
    """Prepares a run of a toy pipeline."""

    def made(pipeline, name="run", **asked):
        if asked.get("resume"):
            return prepare(RunRequest(runs=bench.runs, **asked))
        path = bench.compile(pipeline)
        return prepare(RunRequest(runs=bench.runs, name=name, pipeline=path, grace=5.0, **asked))

    return made


def fates(plan):
    return {task.name: task.fate for task in plan.tasks}


def test_a_plan_says_what_runs_what_the_cache_has_and_for_how_long_and_writes_nothing(bench, plan):
    first = plan(greeting, "one")
    assert fates(first) == {"write": "run", "append": "run"} and first.seconds is None
    assert not bench.runs.exists() or not list(bench.runs.iterdir())
    asyncio.run(execute(first))
    before = sorted(bench.runs.rglob("*"))
    same, other = plan(greeting, "two"), plan(greeting, "two", parameters={"mark": "?"})
    assert fates(same) == {"write": "cached", "append": "cached"} and same.seconds == 0
    assert fates(other) == {"write": "cached", "append": "run"}
    took = {status.task: status.seconds for status in first.folder.tasks()}
    assert other.seconds == pytest.approx(took["append"])
    assert plan(greeting, "two", cache=False).seconds == pytest.approx(sum(took.values()))
    assert json.loads(json.dumps(other.to_json()))["tasks"][1]["depends_on"] == ["write"]
    assert sorted(bench.runs.rglob("*")) == before


def test_a_plan_to_go_on_names_what_is_done(bench, plan):
    asyncio.run(execute(plan(greeting)))
    assert fates(plan(greeting, resume="run")) == {"write": "done", "append": "done"}


def test_what_is_wrong_with_a_request_is_said_before_anything_starts(bench, plan):
    with pytest.raises(ConfigError, match="did you mean text"):
        plan(greeting, parameters={"txt": "a"})
    asyncio.run(execute(plan(greeting)))
    with pytest.raises(InputError, match="already"):
        plan(greeting)


def test_the_events_of_a_run_tell_all_of_it_under_ids_without_a_gap(plan):
    heard = []
    result = asyncio.run(execute(plan(working), heard.append))
    assert result.ending == "succeeded" and result.error() is None
    assert [event.id for event in heard] == list(range(1, len(heard) + 1))
    assert {event.kind for event in heard} == set(KINDS) - {"error"}
    [progress] = [event for event in heard if isinstance(event, ProgressEvent)]
    assert (progress.data.stage, progress.data.step, progress.data.total, progress.attempt) == (
        "course",
        3,
        4,
        1,
    )
    curve, figures = (event.data for event in heard if isinstance(event, MetricEvent))
    assert curve.values == {"loss": 0.5, "norm": None} and figures.values == {"accuracy": 0.75}
    assert [event.data.lines for event in heard if isinstance(event, LogEvent)] == [["one", "two"]]
    assert [event.data.status for event in heard if isinstance(event, RunEvent)] == ["running", "succeeded"]
    told = fold(heard)
    assert told.tasks == read_state(result.folder).tasks == result.state.tasks
    assert told.task("run-code").metrics == {"loss": 0.5, "norm": None, "accuracy": 0.75}


def test_a_failure_is_an_event_and_the_result_says_it_as_an_error(plan):
    @dsl.pipeline
    def broken():
        fail(text="")

    heard = []
    result = asyncio.run(execute(plan(broken), heard.append))
    assert result.ending == "failed" and "it broke" in str(result.error())
    [failure] = [event for event in heard if isinstance(event, ErrorEvent)]
    assert failure.task == "fail" and "it broke" in failure.data.what and failure.data.exit_code == 3
    assert failure.data.where.endswith("log.txt")


def test_two_runs_go_on_at_once_in_one_process(bench, plan):
    code = (
        f"here = pathlib.Path({str(bench.runs.parent)!r})\n"
        "(here / values['mine']).touch()\n"
        "end = time.time() + 20\n"
        "while not (here / values['other']).exists(): assert time.time() < end; time.sleep(.02)\n"
        "say(values['mine'])"
    )

    @dsl.container_component
    def meet(mine: str, other: str, out: dsl.Output[dsl.Artifact]):
        return toy(code)

    @dsl.pipeline
    def meeting(mine: str = "", other: str = ""):
        meet(mine=mine, other=other)

    async def both():
        first = plan(meeting, "first", parameters={"mine": "a", "other": "b"})
        second = plan(meeting, "second", parameters={"mine": "b", "other": "a"})
        return await asyncio.gather(execute(first), execute(second))

    results = asyncio.run(both())
    assert [result.ending for result in results] == ["succeeded", "succeeded"]
    assert [bench.text("meet", name) for name in ("first", "second")] == ["a", "b"]


def test_one_run_is_carried_out_by_one_at_a_time(plan):
    async def both():
        first = start(plan(with_a_stop))
        second = plan(with_a_stop)
        await until_started(first)
        with pytest.raises(LostRace):
            await execute(second)
        first.stop()
        return await first.wait()

    assert asyncio.run(both()).ending == "interrupted"


async def until_started(handle):
    """Until the stoppable task of `with_a_stop` can be stopped."""
    started = handle.folder.task("stoppable").checkpoints / "started"
    while not started.exists():
        assert not handle.done
        await asyncio.sleep(0.02)


def test_cancelling_stops_a_run_in_good_order_and_it_goes_on_under_the_same_ids(bench, plan):
    async def cancelled():
        handle = start(plan(with_a_stop))
        waiting = asyncio.create_task(handle.wait())
        await until_started(handle)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert handle.done

    asyncio.run(cancelled())
    folder = RunFolder(bench.runs / "run")
    state = read_state(folder)
    assert state.state == "interrupted" and state.task("stoppable").exit_code == 75
    assert [
        event.data.status for event in EventReader(folder.events).read() if isinstance(event, RunEvent)
    ] == [
        "running",
        "stopping",
        "interrupted",
    ]
    heard = []
    result = asyncio.run(execute(plan(with_a_stop, resume="run"), heard.append))
    assert result.ending == "succeeded" and bench.text("append") == "whole!"
    assert [event.id for event in heard] == list(range(state.last_id + 1, result.state.last_id + 1))
    assert result.state.task("write").attempts == 1  # it did not run again


def test_a_run_whose_event_loop_ends_leaves_no_process_and_says_interrupted(bench, plan):
    async def forgotten():
        handle = start(plan(with_a_stop))
        await until_started(handle)

    asyncio.run(forgotten())
    folder = RunFolder(bench.runs / "run")
    end = time.monotonic() + 10
    while folder.active():
        assert time.monotonic() < end
        time.sleep(0.05)
    assert read_state(folder).state == "interrupted"


def test_a_listener_that_comes_late_or_again_misses_nothing(plan):
    async def whole():
        handle = start(plan(with_a_stop))
        await until_started(handle)
        seen = []
        async for event in handle.events():
            seen.append(event.id)
            if len(seen) == 3:
                break
        handle.stop()
        async for event in handle.events(after=seen[-1]):
            seen.append(event.id)
        return seen, await handle.wait()

    seen, result = asyncio.run(whole())
    assert seen == list(range(1, result.state.last_id + 1))


def test_a_listener_in_another_process_follows_a_run_to_its_end(bench, plan):
    prepared = plan(working)
    code = (
        "import pathlib, sys, time\n"
        "from pipelines.runs.folder import RunFolder\nfrom pipelines.runs.log import follow\n"
        f"folder = RunFolder(pathlib.Path({str(prepared.folder.path)!r}))\n"
        "while not folder.events.exists(): time.sleep(.01)\n"
        "print(*(event.id for event in follow(folder)))"
    )
    other = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    result = asyncio.run(execute(prepared))
    output, _ = other.communicate(timeout=30)
    assert [int(number) for number in output.split()] == list(range(1, result.state.last_id + 1))
    assert [event.id for event in follow(prepared.folder, after=2)] == list(
        range(3, result.state.last_id + 1)
    )


def test_a_listener_that_hangs_or_breaks_does_not_hold_the_run_up(plan, monkeypatch):
    monkeypatch.setattr("pipelines.local.execute.LISTENER_SECONDS", 0.5)
    release = threading.Event()

    def hangs(event):
        release.wait(60)

    def breaks(event):
        raise ValueError("no more")

    heard = []
    began = time.monotonic()
    result = asyncio.run(execute(plan(greeting), [hangs, breaks, heard.append]))
    release.set()
    assert result.ending == "succeeded" and time.monotonic() - began < 20
    [failure] = [event for event in heard if isinstance(event, ErrorEvent)]
    assert "breaks has failed" in failure.data.what and "no more" in failure.data.why


def test_the_lines_of_the_readme_run_a_pipeline(bench, monkeypatch):
    monkeypatch.chdir(bench.runs.parent)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{bench.runs.parent}/mlflow.db")
    path = bench.compile(greeting)

    async def notebook():
        return await run(pipeline=path, name="one")

    first, second = asyncio.run(notebook()), run_sync(pipeline=path, name="two")
    assert (first.ending, second.ending) == ("succeeded", "succeeded")
    assert (bench.runs / "one" / "report.html").is_file() and first.seconds > 0
    assert {task.state for task in second.state.tasks} == {"cached"}


def test_a_cell_may_wait_for_a_run_where_a_loop_is_running(bench):
    async def cell():
        return run_sync(pipeline=bench.compile(greeting), runs=bench.runs, name="cell")

    assert asyncio.run(cell()).ending == "succeeded"
