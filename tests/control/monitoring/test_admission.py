"""New runs wait while there is too little room, but never one that would be alone, and never one that runs elsewhere."""

from __future__ import annotations

from pipelines.control.context import Control
from pipelines.control.services import admission
from pipelines.control.services.admission import Hold
from pipelines.control.services.pools import Demand, Grant
from pipelines.control.services.queue import Waiting

HOLD = Hold("81% is in use", 1e12)


def waiting(name: str, *, anywhere: bool = False) -> Waiting:
    return Waiting(name, "", 0, 0.0, 0.0, Demand(), anywhere)


def kept(*order: Waiting, busy: bool) -> tuple[list[str], dict[str, str]]:
    begin, why = {one.run: Grant() for one in order}, {"later": "memory"}
    admission.keep_back(order, begin, why, HOLD, busy=busy)
    return list(begin), why


def test_beside_another_none_begins_and_each_says_why() -> None:
    begin, why = kept(waiting("a"), waiting("b"), busy=True)
    assert not begin
    assert why == {"later": "memory", "a": "81% is in use; it waits while others go on", "b": why["a"]}


def test_the_first_begins_where_nothing_goes_on() -> None:
    assert kept(waiting("a"), waiting("b"), busy=False)[0] == ["a"]


def test_what_runs_on_a_cluster_begins() -> None:
    assert kept(waiting("a", anywhere=True), waiting("b"), busy=True)[0] == ["a"]


async def test_a_hold_ends_by_itself_and_by_word(control: Control) -> None:
    async with control.database.write() as connection:
        assert await admission.held(connection) is None
        hold = await admission.hold(connection, "full", 1000.0)
        assert await admission.held(connection) == hold
        await admission.hold(connection, "still full", -1.0)
        assert await admission.held(connection) is None
        await admission.hold(connection, "full")
        assert await admission.release(connection) and await admission.held(connection) is None
        assert not await admission.release(connection)
