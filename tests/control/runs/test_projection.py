"""What events add up to is there with them: the run's state, its strip, its tasks, what it has measured."""

from pipelines.control.context import Control
from pipelines.control.services import runs
from pipelines.control.services.projection import record
from pipelines.runs.events import Metrics, Progress
from pipelines.runs.folder import RunStatus
from tests.control.log.made import make_run
from tests.control.runs.made import ALICE, task, told


async def test_a_run_is_what_its_folder_says(control: Control) -> None:
    await make_run(control.database, state="starting")
    events = [
        told(1, RunStatus("demo", "running", started=10.0, profile="micro", seed=7)),
        told(2, task("cognate-trunk", "cognate", "pending"), "cognate-trunk"),
        told(3, task("bitnet", "bitnet", "pending", depends_on=["cognate-trunk"]), "bitnet"),
        told(4, task("cognate-trunk", "cognate", "running", attempts=1), "cognate-trunk", 1),
        told(5, Progress("trunk", 5, 20, 3.0), "cognate-trunk", 1),
        told(6, Metrics({"loss": 2.5, "odd": None}, "trunk", 5), "cognate-trunk", 1),
    ]
    await record(control, "demo", events)
    found = await runs.detail(control, "demo", ALICE)
    assert (found.state, found.profile, found.seed, found.started) == ("running", "micro", 7, 10.0)
    assert found.phases["cognate"].model_dump(include={"state", "share", "stage", "step"}) == {
        "state": "running",
        "share": 0.25,
        "stage": "trunk",
        "step": 5,
    }
    assert [one.task for one in found.tasks] == ["cognate-trunk", "bitnet"]
    assert found.tasks[0].metrics == {"trunk: loss": 2.5}
    assert found.last_seq == 6


async def test_what_arrives_twice_changes_nothing(control: Control) -> None:
    await make_run(control.database, state="starting")
    events = [told(1, RunStatus("demo", "running")), told(2, RunStatus("demo", "succeeded", finished=9.0))]
    assert len(await record(control, "demo", events)) == 2
    before = await runs.got(control, "demo")
    assert await record(control, "demo", events[:1]) == []
    assert await runs.got(control, "demo") == before
    assert before.state == "succeeded"


async def test_a_failed_task_is_in_the_row_of_the_list(control: Control) -> None:
    await make_run(control.database, state="starting")
    broken = task("bitnet", "bitnet", "failed", attempts=1, error="exit code 3: it broke", finished=5.0)
    await record(control, "demo", [told(1, RunStatus("demo", "running")), told(2, broken, "bitnet", 1)])
    await record(control, "demo", [told(3, RunStatus("demo", "failed", finished=6.0))])
    [row] = (await runs.listed(control, runs.RunFilter(phase="bitnet"))).runs
    assert (row.state, row.failing, row.why) == ("failed", "bitnet", "exit code 3: it broke")
    assert row.error is not None and row.error["what"] == "bitnet has failed"


async def test_a_run_that_was_stopped_is_not_cancelled_before_somebody_has_looked(control: Control) -> None:
    await make_run(control.database, state="cancelling", asked="cancel")
    await record(control, "demo", [told(1, RunStatus("demo", "interrupted", finished=6.0))])
    assert (await runs.got(control, "demo")).state == "cancelling"


async def test_a_run_that_was_killed_before_it_began_is_not_said_to_be_running(control: Control) -> None:
    await make_run(control.database, state="cancelling", asked="kill")
    await record(control, "demo", [told(1, RunStatus("demo", "running", started=6.0))])
    assert (await runs.got(control, "demo")).state == "cancelling"


async def test_the_list_goes_on_behind_its_cursor_whatever_has_come_meanwhile(control: Control) -> None:
    for number in range(7):
        await make_run(control.database, f"run-{number}", created=float(number // 2), state="queued")
    first = await runs.listed(control, runs.RunFilter(), limit=3)
    await make_run(control.database, "newer", created=99.0)
    rest = await runs.listed(control, runs.RunFilter(), limit=10, cursor=first.next)
    names = [run.id for run in (*first.runs, *rest.runs)]
    assert names == [f"run-{number}" for number in (6, 5, 4, 3, 2, 1, 0)]
    assert rest.next is None
