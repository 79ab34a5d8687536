"""How tasks and runs end: attempts, timeouts, Ctrl-C, and going on."""

import asyncio
import time

import psutil
from kfp import dsl, kubernetes
from kfp.dsl import Artifact, Output, ParallelFor

from tests.pipeline.local.toy_pipelines import append, run_code, toy, write


def flaky(path, succeed_at):
    """Code that fails until its attempt number `succeed_at`."""
    return (
        f"p = pathlib.Path({str(path)!r}); n = len(p.read_text()) + 1 if p.exists() else 1; p.write_text('x' * n)\n"
        f"say(str(n)) if n >= {succeed_at} else sys.exit(5)"
    )


def test_a_task_is_tried_again_as_often_as_its_policy_says_and_waits_longer_each_time(bench, tmp_path):
    @dsl.pipeline
    def stubborn():
        run_code(code=flaky(tmp_path / "count", 3)).set_retry(2, "0s", 2, "60s")

    bench.edit = lambda text: text.replace("backoffDuration: 0s", "backoffDuration: 0.2s")
    began = time.monotonic()
    assert bench.run(stubborn) == "succeeded"
    assert time.monotonic() - began > 0.2 + 0.4
    assert bench.text("run-code") == "3"
    assert bench.statuses()["run-code"].attempts == 3


def test_a_task_that_has_no_attempts_left_has_failed(bench, tmp_path):
    @dsl.pipeline
    def hopeless():
        run_code(code=flaky(tmp_path / "count", 9)).set_retry(1, "0s")

    assert bench.run(hopeless) == "failed"
    status = bench.statuses()["run-code"]
    assert (status.attempts, status.exit_code) == (2, 5)


def test_retries_inside_a_loop_are_done_where_the_backend_forgets_them(bench, tmp_path):
    @dsl.container_component
    def attempt(item: str, out: Output[Artifact]):
        return toy(
            f"p = pathlib.Path({str(tmp_path)!r}) / values['item']; first = not p.exists(); p.touch()\n"
            "sys.exit(1) if first else say('ok')"
        )

    @dsl.pipeline
    def looped():
        with ParallelFor(["a", "b"]) as item:
            attempt(item=item).set_retry(1, "0s")

    assert bench.run(looped) == "succeeded"


def test_a_task_that_runs_too_long_is_ended_with_all_that_it_started(bench, tmp_path):
    child = tmp_path / "child"

    @dsl.pipeline
    def endless():
        code = (
            "import subprocess; c = subprocess.Popen(['sleep', '60'])\n"
            f"pathlib.Path({str(child)!r}).write_text(str(c.pid)); time.sleep(60)"
        )
        kubernetes.set_timeout(run_code(code=code), 1)

    assert bench.run(endless) == "failed"
    assert bench.statuses()["run-code"].error == "it ran longer than its 1 s"
    assert not alive(int(child.read_text()))


def alive(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


STOPPABLE = """
import signal
done = pathlib.Path(os.environ["FORGE_CHECKPOINTS"]); done.mkdir(parents=True, exist_ok=True)
asked = []
signal.signal(signal.SIGTERM, lambda *_: asked.append(1))
(done / "started").touch()
while not (done / "half").exists():
    if asked:
        (done / "half").touch(); sys.exit(75)
    time.sleep(.02)
say("whole")
"""


@dsl.container_component
def stoppable(out: Output[Artifact]):
    """Works until it is stopped, writes a checkpoint, and ends well when it is started again."""
    return toy(STOPPABLE)


@dsl.pipeline
def with_a_stop():
    first = write(text="a")
    long = stoppable().after(first)
    append(before=long.output, text="!")


async def stopped_when_started(bench, runner, times=1):
    running = asyncio.create_task(runner.run())
    started = bench.runs / "run" / "tasks" / "stoppable" / "checkpoints" / "started"
    while not started.exists():
        await asyncio.sleep(0.02)
    for _ in range(times):
        runner.stop()
    return await running


def test_a_run_that_is_stopped_lets_phases_write_a_checkpoint_and_goes_on_from_there(bench):
    async def first():
        return await stopped_when_started(bench, bench.runner(with_a_stop))

    assert asyncio.run(first()) == "interrupted"
    found = bench.statuses()
    assert {name: one.status for name, one in found.items()} == {
        "write": "succeeded",
        "stoppable": "cancelled",
        "append": "cancelled",
    }
    assert found["stoppable"].exit_code == 75 and found["stoppable"].error == "the run was stopped"
    before = found["write"].started
    assert bench.run(with_a_stop, resume=True) == "succeeded"
    assert bench.text("append") == "whole!"
    assert bench.statuses()["write"].started == before  # it did not run again


def test_a_phase_that_ignores_the_stop_is_killed_after_the_grace(bench):
    code = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); say('x'); time.sleep(60)"

    @dsl.pipeline
    def deaf():
        run_code(code=code)

    async def whole():
        runner = bench.runner(deaf, grace=0.3)
        running = asyncio.create_task(runner.run())
        while not (bench.runs / "run" / "artifacts" / "run-code" / "out").exists():
            await asyncio.sleep(0.02)
        runner.stop()
        return await running

    assert asyncio.run(whole()) == "interrupted"
    assert bench.statuses()["run-code"].exit_code == 137  # left alone it would sleep, then end with 0


def test_a_phase_that_was_asked_to_stop_by_someone_else_stops_the_run_and_is_not_tried_again(bench):
    @dsl.pipeline
    def preempted():
        run_code(code="sys.exit(75)").set_retry(5, "0s")
        run_code(code="time.sleep(60)")

    assert bench.run(preempted) == "interrupted"
    assert bench.statuses()["run-code"].attempts == 1
