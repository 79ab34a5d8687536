"""Alerts: what this process sees, what Alertmanager has posted, and what is done about too little room."""

from __future__ import annotations

import logging

from fastapi import APIRouter, Request
from pydantic import BaseModel, ValidationError
from sqlalchemy.ext.asyncio import AsyncConnection

from ..auth import audit
from ..auth.guard import public, right
from ..auth.rights import Principal
from ..context import Control
from ..errors import Refused
from ..monitoring import posted
from ..monitoring.conditions import Alert, evaluate
from ..monitoring.scaling import Scaled, scale
from ..monitoring.snapshot import watcher
from ..monitoring.webhook import trusted
from ..services import admission
from ..store.database import now
from .app import Here

router = APIRouter(tags=["monitoring"])
log = logging.getLogger("forge.control")


class Hold(BaseModel):
    """New runs wait, until then at the longest."""

    why: str
    until: float


class Alerts(BaseModel):
    """What wants to be looked at.

    :param hold: new runs wait for room; nothing where they do not.
    """

    alerts: list[Alert]
    hold: Hold | None = None


@router.get("/system/alerts", dependencies=[right("system", "read")])
async def alerts(here: Here) -> Alerts:
    """What is wrong now by this process's own look, then what Alertmanager has posted in the last day."""
    snapshot = await watcher(here).look()
    async with here.database.read() as connection:
        time = float(await connection.scalar(now().select()) or 0.0)
        theirs = await posted.read(connection)
        held = await admission.held(connection)
    return Alerts(
        alerts=[*evaluate(snapshot, time), *theirs],
        hold=Hold(why=held.why, until=held.until) if held else None,
    )


@router.post("/system/alerts", status_code=204, dependencies=[public])
async def post(here: Here, request: Request) -> None:
    """Alertmanager's webhook, for every alert. It needs FORGE_WEBHOOK_SECRET, as a token or as a signature."""
    post = await _post(here, request)
    async with here.database.write() as connection:
        await posted.keep(connection, post.alerts)


@router.post("/system/scale", dependencies=[public])
async def more_room(here: Here, request: Request) -> Scaled:
    """The action `scale_resources`: new runs wait, or a service on Kubernetes gets a replica more.

    It needs FORGE_WEBHOOK_SECRET, as a token or as a signature.
    """
    post = await _post(here, request)
    why = post.commonAnnotations.get("summary", "") or "somebody asks for room"
    done = await scale(here.settings, here.database, firing=post.status == "firing", why=why)
    log.warning("%s: %s (%s)", done.action, done.why, why)
    async with here.database.write() as connection:
        await posted.keep(connection, post.alerts)
        await _write_down(connection, request, done)
    return done


async def _post(here: Control, request: Request) -> posted.Post:
    body = await trusted(request, here.database, here.settings.webhook_secret)
    try:
        return posted.Post.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])[:200]
        raise Refused(422, "this is no post of Alertmanager's", where=where, why=first["msg"]) from None


async def _write_down(connection: AsyncConnection, request: Request, done: Scaled) -> None:
    await audit.record(
        connection,
        Principal("", "webhook", "operator"),
        "scale_resources",
        done.target,
        outcome=done.action,
        request_id=request.state.request_id,
        address=request.client.host if request.client else "",
        detail=done.model_dump(),
    )
