"""One holder at a time: on both databases one of many takes an expired lease, and who was paused writes nothing."""

import asyncio
import os
import time

import pytest
from sqlalchemy import update

from pipelines.control.context import Control
from pipelines.control.services.carrier import Held, Look
from pipelines.control.services.follower import Follower
from pipelines.control.services.leases import held_by, release, renew, take_expired
from pipelines.control.services.local_carrier import row_now
from pipelines.control.services.projection import record
from pipelines.control.store.database import now
from pipelines.control.store.events import LeaseLost, page
from pipelines.control.store.tables import run
from tests.control.log.made import line, make_run


async def expire(control: Control, name: str = "demo") -> None:
    async with control.database.write() as connection:
        await connection.execute(update(run).where(run.c.id == name).values(lease_until=now() - 1))


async def take(control: Control) -> int:
    """Take the run, as its first holder; the epoch."""
    await expire(control)
    [row] = await take_expired(control, "here", ("local",))
    return int(row["epoch"])


async def test_of_twenty_who_take_one_expired_lease_one_has_it(control: Control) -> None:
    await make_run(control.database)
    taken = await asyncio.gather(*(take_expired(control, "here", ("local",)) for _ in range(20)))
    assert sorted(map(len, taken)) == [0] * 19 + [1]


async def test_a_lease_that_is_renewed_is_nobody_elses(control: Control) -> None:
    await make_run(control.database)
    epoch = await take(control)
    assert await renew(control, {"demo": epoch}) == set()
    assert await take_expired(control, "there", ("local",)) == []
    await release(control, {"demo": epoch})
    [row] = await take_expired(control, "there", ("local",))
    assert row["epoch"] == epoch + 1
    assert await renew(control, {"demo": epoch}) == {"demo"}


async def test_a_holder_that_was_paused_writes_nothing_after_the_takeover(control: Control) -> None:
    await make_run(control.database)
    before = await take(control)
    await record(control, "demo", [line(1)], epoch=before)
    after = await take(control)
    with pytest.raises(LeaseLost):
        await record(control, "demo", [line(2)], epoch=before)
    await record(control, "demo", [line(2)], epoch=after)
    assert [event.n for event in await page(control.database, "demo", 0)] == [1, 2]


async def test_a_holder_of_this_place_whose_process_is_gone_is_not_waited_for(control: Control) -> None:
    child = await asyncio.create_subprocess_exec("true")
    await child.wait()
    held = {"holder_host": "here", "lease_until": time.time() + 60}
    await make_run(control.database, "gone", holder=f"a-machine-{child.pid}-ab12", **held)
    await make_run(control.database, "alive", holder=f"a-machine-{os.getpid()}-ab12", **held)
    await make_run(
        control.database, "away", **{**held, "holder": f"b-{child.pid}-ab", "holder_host": "there"}
    )
    assert [row["id"] for row in await take_expired(control, "here", ("local",))] == ["gone"]


class Recording:
    """A carrier that only notes what is asked of it."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    async def start(self, held: Held) -> None:
        self.calls.append("start")

    async def look(self, held: Held) -> Look:
        self.calls.append("look")
        return Look(True)

    async def cancel(self, held: Held, *, kill: bool) -> None:
        self.calls.append("kill" if kill else "cancel")

    async def abandon(self, held: Held, successor: object) -> None:
        self.calls.append("abandon")


async def test_who_finds_a_higher_epoch_lets_go(control: Control) -> None:
    await make_run(control.database)
    epoch = await take(control)
    row = await row_now(control, "demo")
    assert row is not None
    carrier = Recording()
    await take(control)
    await asyncio.wait_for(Follower(control, carrier, Held(row, epoch), begin=False).follow(), 10)
    assert carrier.calls == ["abandon"]


async def test_a_run_of_a_target_that_nobody_here_carries_is_left_alone(control: Control) -> None:
    await make_run(control.database, target="kubeflow")
    assert await take_expired(control, "here", ("local",)) == []


async def test_the_lease_of_a_run_that_has_ended_is_not_taken(control: Control) -> None:
    await make_run(control.database, state="succeeded")
    async with control.database.write() as connection:
        await connection.execute(update(run).values(**held_by(control, "here")))
    await expire(control)
    assert await take_expired(control, "here", ("local",)) == []
