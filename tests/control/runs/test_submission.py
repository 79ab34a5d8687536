"""A run is asked for once with each key, and the queue has it with its plan."""

import asyncio
from pathlib import Path

import pytest
from sqlalchemy import insert

from components.shared.runtime.errors import ConfigError
from pipelines.control.context import Control
from pipelines.control.errors import Refused
from pipelines.control.services import actions, overview, profiles, runs
from pipelines.control.services.planning import Asked, planned
from pipelines.control.services.profiles import UserProfile
from pipelines.control.services.submission import submitted
from pipelines.control.store.database import now
from pipelines.control.store.tables import controller
from tests import shapes
from tests.control.runs.made import ADMIN, ALICE, BOB
from tests.unit.shared.base_models.conftest import hub  # noqa: F401
from tests.unit.shared.base_models.hub_server import Hub

MICRO = Asked(profile="micro", end_phase="cognate")


async def test_a_run_is_queued_with_its_plan(control: Control) -> None:
    taken = await submitted(control, ALICE, MICRO)
    found = await runs.detail(control, taken.id, ALICE)
    assert (found.state, found.version, found.owner, found.profile) == ("queued", 1, "alice", "micro")
    assert list(found.phases) == ["cognate"]
    assert "cognate-trunk" in {task.task for task in found.tasks}
    assert found.memory_bytes > 0 and found.gpus == 1
    assert "log_source" not in found.model_dump()  # GET …/logs says with its lines where they come from
    assert found.actions["cancel"].allowed and not found.actions["resume"].allowed
    assert (await runs.detail(control, taken.id, BOB)).actions["cancel"].why == "it is somebody else's run"


async def test_one_key_is_one_run_however_many_ask_at_once(control: Control) -> None:
    taken = await asyncio.gather(*(submitted(control, ALICE, MICRO, "key") for _ in range(8)))
    assert len({run.id for run in taken}) == 1
    with pytest.raises(Refused) as refused:
        await submitted(control, ALICE, MICRO.model_copy(update={"seed": 3}), "key")
    assert refused.value.status == 422
    other = await submitted(control, BOB, MICRO, "key")
    assert other.id != taken[0].id


async def test_what_waits_says_so_where_no_controller_lives(control: Control) -> None:
    taken = await submitted(control, ALICE, MICRO)
    [waits] = await overview.queued(control)
    assert waits.id == taken.id and "no controller is there" in waits.why
    async with control.database.write() as connection:
        row = {"name": "c", "host": "h", "pools": {}}
        await connection.execute(insert(controller).values(**row, seen=now()))
    assert [waits.why for waits in await overview.queued(control)] == [""]


async def test_one_key_goes_on_with_a_run_once(control: Control) -> None:
    taken = await submitted(control, ALICE, MICRO)
    await actions.cancelled(control, ALICE, taken.id)
    asked = Asked(resume=taken.id)
    first = await submitted(control, ALICE, asked, "key")
    again = await submitted(control, ALICE, asked, "key")
    assert first.state == again.state == "queued" and first.version == again.version


async def test_what_is_wrong_is_said_before_anything_is_taken(control: Control) -> None:
    with pytest.raises(ConfigError):
        await submitted(control, ALICE, Asked(profile="micro", overrides=["bitnet.no_such=1"]))
    with pytest.raises(Refused):
        await submitted(control, ALICE, Asked(start_phase="bitnet", artifacts=["/etc"]))
    with pytest.raises(ConfigError, match="no profile 'mcro'"):
        await submitted(control, ALICE, Asked(profile="mcro"))
    with pytest.raises(ConfigError, match="no Kubeflow Pipelines server"):
        await submitted(control, ALICE, MICRO.model_copy(update={"target": "kubeflow"}))
    assert (await runs.listed(control, runs.RunFilter())).runs == []


async def test_a_range_with_gaps_is_not_taken_for_kubeflow(control: Control) -> None:
    control.settings = control.settings.model_copy(update={"kfp_host": "http://127.0.0.1:9"})
    asked = Asked(profile="micro", target="kubeflow", without=["evomerge"])
    with pytest.raises(ConfigError, match="all phases of a range"):
        await submitted(control, ALICE, asked)


async def test_a_run_begins_with_a_profile_that_somebody_keeps(control: Control) -> None:
    kept = UserProfile(base="micro", overrides=["cognate.batch=3"])
    profiles.keep(control.settings, "mine", kept)
    asked = MICRO.model_copy(update={"profile": "mine", "seed": 3})
    assert (await planned(control, asked)).profile == "micro"
    taken = await submitted(control, ALICE, asked, "key")
    found = await runs.detail(control, taken.id, ALICE)
    assert (found.profile, found.request["overrides"]) == ("micro", ["cognate.batch=3"])
    assert (await submitted(control, ALICE, asked, "key")).id == taken.id


async def test_a_plan_says_what_would_run_and_takes_nothing(control: Control) -> None:
    plan = await planned(control, MICRO)
    assert {task.fate for task in plan.tasks} == {"run", "left out"}
    assert plan.resources["phases"]["cognate"]["tasks"] == 4
    assert (await runs.listed(control, runs.RunFilter())).runs == []


async def test_a_base_model_may_be_a_name_of_the_hub_and_no_path_that_looks_like_one(
    control: Control,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    hub: Hub,  # noqa: F811
) -> None:
    (tmp_path / "owner" / "secret").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Refused, match="none of ours"):
        await planned(control, Asked(profile="micro", base_models=["owner/secret"]))
    commit = hub.add("owner/model", shapes.make("llama", tmp_path / "model"))
    plan = await planned(control, Asked(profile="micro", base_models=["owner/model@main"]))
    assert plan.parameters["base_model_1"] == f"owner/model@{commit}"


async def test_cancelling_what_waits_is_done_at_once_and_twice_is_once(control: Control) -> None:
    taken = await submitted(control, ALICE, MICRO)
    with pytest.raises(Refused) as refused:
        await actions.cancelled(control, BOB, taken.id, taken.version)
    assert refused.value.status == 404
    first = await actions.cancelled(control, ALICE, taken.id, taken.version)
    again = await actions.cancelled(control, ALICE, taken.id, taken.version)
    assert first.state == again.state == "cancelled"
    assert first.version == again.version == taken.version + 1


async def test_who_has_seen_an_older_run_gets_the_present_one(control: Control) -> None:
    taken = await submitted(control, ALICE, MICRO)
    gone = await actions.cancelled(control, ALICE, taken.id)
    back = await actions.resumed(control, ADMIN, taken.id, gone.version)
    assert back.state == "queued"
    with pytest.raises(Refused) as refused:
        await actions.cancelled(control, ALICE, taken.id, taken.version)
    assert refused.value.status == 412
    assert refused.value.state is not None and refused.value.state["state"] == "queued"
