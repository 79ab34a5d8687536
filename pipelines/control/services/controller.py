"""The controller: takes runs out of the queue and from holders that are gone, and stays with each until it has ended.

Any number of controllers share a database. Each takes what its machine has room for; the lease says whose a run is.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

from sqlalchemy import func, insert, select, update

from components.shared.runtime import machine
from components.shared.runtime.errors import ForgeError, StoreError

from ...local.processes.devices import visible
from ...runs.folder import RunFolder
from ..context import Control
from ..store.database import now
from ..store.tables import controller, run
from ..store.upsert import upsert
from . import admission
from .carrier import Carrier, Held
from .collector import FoundFolder, scan
from .follower import Follower
from .kubeflow_runs import KubeflowCarrier
from .leases import LEASE_SECONDS, RENEW_SECONDS, held_by, release, renew, take_expired
from .local_carrier import LocalCarrier, runner_of
from .pools import Demand, Grant, Pools, grant_of, slots_of_machine
from .processes import here
from .queue import Waiting, beginning, ordered
from .strip import Row
from .transitions import AT_WORK, OVER, change

log = logging.getLogger("forge.control")

EXPIRED_SECONDS = 2.0
QUEUE_SECONDS = 1.0
SCAN_SECONDS = 2.0
WHY_SECONDS = 5.0
"""What a run waits for is written down as often at most: the memory that is free is another each second."""

CONTROLLER_SECONDS = 15.0
"""A controller that has not said for so long that it is there is not."""

LONGEST_QUEUE = 500
"""So many of those that wait are looked at, by priority and age."""

MOST_AT_ONCE = 64
"""So many runs are followed at a time before others that are found have to wait."""

WRITTEN_LATER = 2.0
"""A log that was written so many seconds after its run had ended has been gone on with."""


class Controller:
    """One process' controller. `serve` is its life."""

    def __init__(self, control: Control, carriers: Mapping[str, Carrier], pools: Pools) -> None:
        self.control = control
        self.carriers = carriers
        self.pools = pools
        self.place = here()
        self.followers: dict[str, Follower] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._folders: dict[str, float] = {}
        self._queue_changed = asyncio.Event()
        self._said_why: dict[str, float] = {}

    async def serve(self) -> None:
        """Work until cancelled. Runs go on then, and another controller may take them at once."""
        loops = [
            self._again_and_again(self._renew, RENEW_SECONDS),
            self._again_and_again(self._take_expired, EXPIRED_SECONDS),
            self._again_and_again(self._take_waiting, QUEUE_SECONDS, self._queue_changed),
            self._again_and_again(self._scan, SCAN_SECONDS),
            self._listen(),
        ]
        try:
            async with asyncio.TaskGroup() as group:
                for loop in loops:
                    group.create_task(loop)
        finally:
            ours = self._held()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            with contextlib.suppress(StoreError):  # their leases end by themselves
                await release(self.control, ours)

    # -- holding

    async def _renew(self) -> None:
        await self._show()
        for name in await renew(self.control, self._held()):
            self.followers[name].woken.set()  # it looks whose the run is, and lets go

    async def _show(self) -> None:
        """Say that we are there, and what our machine has: the page shows it."""
        shown = await asyncio.to_thread(self.pools.to_json)
        values = {"name": self.control.name, "host": self.place.partition("/")[0], "pools": shown}
        async with self.control.database.write() as connection:
            row = {**values, "seen": await connection.scalar(select(now()))}
            await upsert(
                connection,
                controller,
                [row],
                lambda new: {name: new[name] for name in ("host", "seen", "pools")},
            )

    async def _take_expired(self) -> None:
        for row in await take_expired(self.control, self.place, tuple(self.carriers)):
            log.warning("run %s is taken up: nobody was at it", row["id"])
            self._hold(row, grant_of(row["process"]), begin=row["state"] == "starting" and not _process(row))

    async def _take_waiting(self) -> None:
        waiting = await self._waiting()
        if not waiting:
            return
        order = ordered(list(waiting.values()), await self._running())
        begin, why = await asyncio.to_thread(beginning, order, self.pools)
        async with self.control.database.read() as connection:
            hold = await admission.held(connection)
        if hold is not None:
            busy = any(follower.held.row["target"] == "local" for follower in self.followers.values())
            admission.keep_back(order, begin, why, hold, busy=busy)
        for name, grant in begin.items():
            if row := await self._begun(name, grant):
                self._hold(row, grant, begin=True)
        self._said_why = {name: at for name, at in self._said_why.items() if name in why}
        for name, reason in why.items():
            if time.monotonic() - self._said_why.get(name, -WHY_SECONDS) >= WHY_SECONDS:
                self._said_why[name] = time.monotonic()
                await self._say_why(name, reason)

    def _hold(self, row: Row, grant: Grant, *, begin: bool) -> None:
        """Stay with a run that is ours from now on."""
        carrier = self.carriers[row["target"]]
        granted = grant.to_json() if row["target"] == "local" else {}
        held = Held(row, int(row["epoch"]), granted)
        follower = self.followers[held.id] = Follower(self.control, carrier, held, begin=begin)
        if granted:
            self.pools.give(held.id, grant)
        task = asyncio.create_task(self._follow(follower), name=f"follow {held.id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _follow(self, follower: Follower) -> None:
        try:
            await follower.follow()
        except Exception:
            log.exception("the run %s is let go of, and taken up again", follower.held.id)
        finally:
            if self.followers.get(follower.held.id) is follower:
                del self.followers[follower.held.id]
                self.pools.give_back(follower.held.id)
            self._queue_changed.set()

    def _held(self) -> dict[str, int]:
        return {name: follower.held.epoch for name, follower in self.followers.items()}

    # -- the queue

    async def _waiting(self) -> dict[str, Waiting]:
        query = (
            select(
                run.c.id, run.c.owner, run.c.priority, run.c.created, run.c.target, run.c.gpus,
                run.c.memory_bytes, run.c.process, run.c.request, now().label("now"),
            )
            .where(run.c.state == "queued", run.c.target.in_(tuple(self.carriers)))
            .order_by(run.c.priority.desc(), run.c.created)
            .limit(LONGEST_QUEUE)
        )  # fmt: skip
        async with self.control.database.read() as connection:
            rows = (await connection.execute(query)).mappings().all()
        return {row["id"]: as_waiting(row) for row in rows}

    async def _running(self) -> dict[str, int]:
        query = select(run.c.owner, func.count()).where(run.c.state.in_(AT_WORK)).group_by(run.c.owner)
        async with self.control.database.read() as connection:
            return Counter({owner: number for owner, number in await connection.execute(query)})

    async def _begun(self, name: str, grant: Grant) -> Row | None:
        """Take a run out of the queue; None where somebody else was faster, or it was cancelled."""
        async with self.control.database.write() as connection:
            lease = update(run).where(run.c.id == name, run.c.state == "queued")
            process = await connection.scalar(select(run.c.process).where(run.c.id == name))
            given = {**(process or {}), **grant.to_json()}
            taken = await connection.execute(lease.values(process=given, **held_by(self.control, self.place)))
            if taken.rowcount != 1:
                return None
            await change(connection, name, state="starting", why="")
            row: Row = (await connection.execute(select(run).where(run.c.id == name))).mappings().one()
        await self.control.bus.wake(name)
        return row

    async def _say_why(self, name: str, reason: str) -> None:
        """Write down what a run waits for. Several machines have reasons of their own: the last one stands."""
        waits = update(run).where(run.c.id == name, run.c.state == "queued", run.c.why != reason)
        async with self.control.database.write() as connection:
            changed = await connection.execute(waits.values(why=reason))
        if changed.rowcount:
            await self.control.bus.wake("")

    # -- runs that the command line has begun

    async def _scan(self) -> None:
        began = time.monotonic()
        for found in await asyncio.to_thread(scan, self.control.settings.runs):
            name = found.folder.name
            if name in self.followers or self._folders.get(name) == found.written:
                continue
            if len(self.followers) >= MOST_AT_ONCE:  # of a folder full of old runs, some at a time
                break
            try:
                await self._look_at(found)
            except StoreError:
                raise
            except Exception:  # what is wrong with one folder hides no other
                log.exception("the folder of run %s is passed over until it is written again", name)
            self._folders[name] = found.written
        await asyncio.sleep(
            min(10 * (time.monotonic() - began), 60.0)
        )  # of thousands of folders not each second

    async def _look_at(self, found: FoundFolder) -> None:
        """Hold a run that the database does not know, or that has been gone on with by the command line."""
        folder = found.folder
        async with self.control.database.read() as connection:
            query = select(run.c.state, run.c.version, run.c.finished).where(run.c.id == folder.name)
            known = (await connection.execute(query)).first()
        if known is None:
            values = await asyncio.to_thread(_registered, folder)
            if values is not None:
                await self._register(folder.name, values)
        elif known.state in OVER and await asyncio.to_thread(_goes_on, found, known.finished):
            await self._reopen(folder, known.version)

    async def _register(self, name: str, values: dict[str, Any]) -> None:
        lease = {"holder": self.control.name, "holder_host": self.place[:200], "epoch": 1}
        async with self.control.database.write() as connection:
            if await connection.scalar(select(run.c.id).where(run.c.id == name)):
                return
            row_values = {**values, **lease, "lease_until": now() + LEASE_SECONDS}
            await connection.execute(insert(run).values(id=name, **row_values))
            row: Row = (await connection.execute(select(run).where(run.c.id == name))).mappings().one()
        await self.control.bus.wake("")
        self._hold(row, Grant(), begin=False)

    async def _reopen(self, folder: RunFolder, version: int) -> None:
        process = await asyncio.to_thread(_runner, folder)
        async with self.control.database.write() as connection:
            recorded = await connection.scalar(select(run.c.process).where(run.c.id == folder.name)) or {}
            kept = {"producer": recorded["producer"]} if "producer" in recorded else {}
            lease = update(run).where(run.c.id == folder.name, run.c.version == version)
            taken = await connection.execute(
                lease.values(
                    process={**kept, **process}, origin="command", asked="", finished=None,
                    **held_by(self.control, self.place),
                )
            )  # fmt: skip
            if taken.rowcount != 1:
                return
            await change(connection, folder.name, state="running", why="", error=None)
            row: Row = (await connection.execute(select(run).where(run.c.id == folder.name))).mappings().one()
        await self.control.bus.wake("")
        self._hold(row, Grant(), begin=False)

    # -- how it lives

    async def _listen(self) -> None:
        async with self.control.bus.listening() as woken:
            async for name in woken:
                if name in self.followers:
                    self.followers[name].woken.set()
                elif not name:
                    self._queue_changed.set()

    async def _again_and_again(self, work: Any, seconds: float, sooner: asyncio.Event | None = None) -> None:
        waiting = sooner or asyncio.Event()
        while True:
            try:
                await work()
            except StoreError as error:
                log.warning("the controller tries again: %s", error)
            except Exception:  # what is wrong with one run or one look keeps no other waiting
                log.exception("the controller goes on")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(waiting.wait(), seconds)
            waiting.clear()


async def serve(control: Control) -> None:
    """Be the controller of this process, until cancelled."""
    local = LocalCarrier(control)
    gpus = await asyncio.to_thread(visible)
    pools = Pools(gpus, slots_of_machine(machine.cores()), machine.memory().limit, lambda: (0, {}))

    def free() -> tuple[int, dict[str, int]]:
        return machine.memory().free, local.memory(dict(pools.given))

    pools.free_memory = free
    carriers: dict[str, Carrier] = {"local": local}
    if control.settings.kfp_host:
        carriers["kubeflow"] = KubeflowCarrier(control)
    await Controller(control, carriers, pools).serve()


def as_waiting(row: Row) -> Waiting:
    """A row of a run that is queued, with the time on the database's clock as `now`, as the queue sees it."""
    slots = row["request"].get("slots") or (row["process"] or {}).get("slots") or 1
    demand = Demand(int(row["gpus"]), int(slots), int(row["memory_bytes"]))
    waited = float(row["now"]) - float(row["created"])
    return Waiting(
        row["id"], row["owner"], int(row["priority"]), float(row["created"]), waited, demand,
        anywhere=row["target"] != "local",
    )  # fmt: skip


def _process(row: Row) -> bool:
    return bool((row["process"] or {}).get("pid"))


def _runner(folder: RunFolder) -> dict[str, Any]:
    """The process that is at a run of the command line; nothing where there is none, or it cannot be known."""
    process = runner_of(folder)
    return process.to_json() if process else {}


def _registered(folder: RunFolder) -> dict[str, Any] | None:
    """The row of a run that the command line has begun; None where its folder cannot be read."""
    try:
        status = folder.read()
    except (ForgeError, OSError):
        return None
    return {
        "state": "running", "origin": "command", "target": "local", "created": status.started or time.time(),
        "started": status.started, "profile": status.profile, "seed": status.seed, "parameters": status.parameters,
        "folder": str(folder.path), "root": status.store, "process": _runner(folder) | {"slots": status.slots},
    }  # fmt: skip


def _goes_on(found: FoundFolder, finished: float | None) -> bool:
    """Whether somebody has gone on with a run that had ended."""
    return found.written > (finished or 0.0) + WRITTEN_LATER or found.folder.active()
