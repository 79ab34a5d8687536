"""A run is asked for: once for each Idempotency-Key, checked before it is taken, and then in the queue."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json

from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from components.shared.runtime.errors import InputError

from ...runs.folder import checked_name
from ..auth.rights import Principal
from ..context import Control
from ..errors import Refused
from ..store.database import now
from ..store.events import NewEvent, append
from ..store.tables import idempotency, run, task
from ..store.upsert import upsert
from .actions import resumed
from .planning import Asked, PlanOfRun, planned, row_for, settled, tasks_of
from .runs import Run, got
from .strip import strip
from .transitions import CONTROL

KEPT_SECONDS = 24 * 3600.0
"""So long an Idempotency-Key is remembered."""

LONGEST_KEY = 200


async def submitted(control: Control, who: Principal, asked: Asked, key: str = "") -> Run:
    """The run that is asked for, queued; with a key that was used, the one that was made then.

    :param key: of whoever asks: the same key with the same request is the same run, for 24 hours.
    :raises Refused: the key stands for another request (422); the name is taken (409); `resume` names no run (404).
    :raises ForgeError: something is wrong with what is asked for.
    """
    if len(key) > LONGEST_KEY or not key.isprintable():
        raise InputError("this is no key", where="Idempotency-Key", fix=f"give 1 to {LONGEST_KEY} letters")
    if asked.name:
        checked_name(asked.name)
    body = _digest(asked)
    known = await _known(control, who, key, body) if key else ""
    if known:
        return await got(control, known)
    if asked.resume:
        taken = await resumed(control, who, asked.resume, first=asked.start_phase, last=asked.end_phase)
        if key:
            async with control.database.write() as connection:
                await _claimed(connection, who, key, body, taken.id)
        return taken
    asked = await asyncio.to_thread(settled, control.settings, asked)
    plan = await planned(control, asked)
    async with control.database.write() as connection:
        if key and not await _claimed(connection, who, key, body):  # somebody was faster, and has committed
            known = await _same(connection, who, key, body)
        if not known:
            time = float(await connection.scalar(select(now())) or 0.0)
            known = await _queued(connection, control, who, asked, plan, time)
            mine = (idempotency.c.principal == who.id, idempotency.c.key == key)
            await connection.execute(update(idempotency).where(*mine).values(run=known))
    await control.bus.wake(known)
    await control.bus.wake("")
    return await got(control, known)


def _digest(asked: Asked) -> str:
    return hashlib.sha256(json.dumps(asked.model_dump(), sort_keys=True).encode()).hexdigest()


async def _claimed(connection: AsyncConnection, who: Principal, key: str, body: str, name: str = "") -> bool:
    """Remember what a key stands for; False where it stands for something already.

    :param name: of the run; "" where it has none yet.
    """
    time = float(await connection.scalar(select(now())) or 0.0)
    await connection.execute(delete(idempotency).where(idempotency.c.created < time - KEPT_SECONDS))
    row = {"principal": who.id, "key": key, "body": body, "run": name, "created": time}
    return bool(await upsert(connection, idempotency, [row]))


async def _known(control: Control, who: Principal, key: str, body: str) -> str:
    """The run that the key stands for; "" for a new key."""
    async with control.database.read() as connection:
        return await _same(connection, who, key, body)


async def _same(connection: AsyncConnection, who: Principal, key: str, body: str) -> str:
    """The same.

    :raises Refused: it stands for another request: 422.
    """
    query = select(idempotency.c.body, idempotency.c.run).where(
        idempotency.c.principal == who.id,
        idempotency.c.key == key,
        idempotency.c.created >= now() - KEPT_SECONDS,
    )
    row = (await connection.execute(query)).first()
    if row is not None and row.body != body:
        raise Refused(
            422,
            "this key stands for another request",
            where="Idempotency-Key",
            why=f"with it run {row.run} was asked for",
            fix="give each request a key of its own, and send it again only unchanged",
        )
    return row.run if row is not None else ""


async def _queued(
    connection: AsyncConnection, control: Control, who: Principal, asked: Asked, plan: PlanOfRun, time: float
) -> str:
    """The row of a new run, its tasks as they are planned, and its first event; its name."""
    names = itertools.chain([plan.name], (f"{plan.name}-{number}" for number in itertools.count(2)))
    tasks = tasks_of(plan)
    for name in names:
        row = {
            "id": name, "state": "queued", "target": asked.target, "origin": "api", "owner": who.id,
            "priority": asked.priority, "profile": plan.profile, "seed": plan.seed,
            "request": asked.model_dump(exclude={"dry_run"}), "parameters": plan.parameters,
            "phases": strip(tasks, ended=False), "created": time, "gpus": plan.gpus,
            "memory_bytes": plan.memory_bytes, "folder": str((control.settings.runs / name).absolute()),
            "root": plan.store, "process": {"slots": plan.slots},
        }  # fmt: skip
        if await upsert(connection, run, [row]):
            break
        if asked.name:
            raise Refused(
                409, f"there is a run {name!r} already", where="name", fix="give another name, or resume it"
            )
    await upsert(connection, task, [row_for(name, own) for own in tasks])
    data = {"kind": "run", "state": "queued", "version": 1, "why": ""}
    await append(connection, name, [NewEvent("global", "", 0, CONTROL, 1, time, data)])
    return name
