"""A run that `forge submit`, or KFP's page, has started: taken in, and followed from then on like one of ours."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import select

from components.shared.runtime.errors import ConfigError, InputError

from ...kubeflow.server import Server
from ...kubeflow.state.run import Watcher
from ...runs.folder import checked_name
from ..auth.rights import Principal
from ..context import Control
from ..store.database import now
from ..store.tables import run
from ..store.upsert import upsert
from .kubeflow_submission import access_of
from .planning import Asked
from .runs import Run, got


async def adopted(control: Control, who: Principal, kfp_id: str) -> Run:
    """The run that KFP has under this id, name or address of its page; taken in where it is not known yet.

    :raises ConfigError: no server of Kubeflow is set.
    :raises NotFound: it has none.
    """
    settings = control.settings
    if not settings.kfp_host:
        raise ConfigError(
            "no Kubeflow Pipelines server is set", where="KFP_HOST", fix="set it, and start again"
        )
    server = Server(access_of(settings))
    found = await asyncio.to_thread(server.find, kfp_id)
    known = select(run.c.id).where(run.c.kfp_id == found)
    async with control.database.read() as connection:
        name = await connection.scalar(known)
    if name is None:
        watcher = Watcher(server, found, None)
        seen = await asyncio.to_thread(watcher.look)
        given = (watcher.answer.get("runtime_config") or {}).get("parameters") or {}
        async with control.database.write() as connection:
            name = await connection.scalar(known)
            row = {
                "state": "running", "target": "kubeflow", "origin": "command", "owner": who.id, "kfp_id": found,
                "kfp_host": server.host, "started": seen.started, "parameters": given, "profile": _profile(given),
                "seed": _seed(given), "request": Asked(target="kubeflow").model_dump(exclude={"dry_run"}),
                "created": await connection.scalar(select(now())), "lease_until": 0.0,
            }  # fmt: skip
            for free in (_name(seen.name), f"kfp-{found}"):
                if name is None and free and await upsert(connection, run, [{"id": free, **row}]):
                    name = free
        await control.bus.wake("")
    return await got(control, str(name))


def _name(given: str) -> str:
    """What it may be called here, too; "" where it may not."""
    try:
        return checked_name(given)
    except ConfigError:
        return ""


def _profile(parameters: Mapping[str, Any]) -> str:
    """The profile that the settings of a phase name; "" where none does."""
    for name, text in parameters.items():
        if name.endswith("_settings") and isinstance(text, str):
            try:
                return str(json.loads(text).get("profile") or "")[:64]
            except (ValueError, AttributeError, RecursionError) as error:
                raise InputError(
                    "the settings of the run are no JSON", where=name, why=str(error)[:200]
                ) from None
    return ""


def _seed(parameters: Mapping[str, Any]) -> int | None:
    seed = parameters.get("seed")
    return int(seed) if isinstance(seed, (int, float)) and 0 <= seed < 1 << 53 else None
