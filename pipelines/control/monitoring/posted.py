"""What Alertmanager posts: kept by fingerprint, the last of each."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import delete, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from ..store.database import now
from ..store.tables import alert
from ..store.upsert import upsert
from .conditions import Alert, Severity, runbook

FORGOTTEN_SECONDS = 86400.0
"""So long a resolved one is still shown, and one that nobody has repeated is still believed."""

MOST = 500

Text = dict[str, str]
SEVERITIES: dict[str, Severity] = {"info": "info", "warning": "warning", "critical": "critical"}


class PostedAlert(BaseModel):
    """One of a post."""

    model_config = ConfigDict(extra="ignore")

    status: Literal["firing", "resolved"]
    labels: Text = Field(max_length=64)
    annotations: Text = Field(default_factory=dict, max_length=64)
    startsAt: datetime
    fingerprint: str = Field(min_length=1, max_length=64)


class Post(BaseModel):
    """A post of Alertmanager's, version 4, as far as it is read here."""

    model_config = ConfigDict(extra="ignore")

    status: Literal["firing", "resolved"]
    alerts: list[PostedAlert] = Field(max_length=200)
    commonAnnotations: Text = Field(default_factory=dict)


async def keep(connection: AsyncConnection, alerts: Sequence[PostedAlert]) -> None:
    """Keep what was posted; of an alert that is known, in place of what was known. Part of the caller's transaction."""
    time = float(await connection.scalar(now().select()) or 0.0)
    rows = {
        each.fingerprint: {
            "fingerprint": each.fingerprint,
            "name": each.labels.get("alertname", "")[:200],
            "state": each.status,
            "labels": _short(each.labels),
            "annotations": _short(each.annotations),
            "starts": each.startsAt.timestamp(),
            "received": time,
        }
        for each in alerts
    }
    columns = ("name", "state", "labels", "annotations", "starts", "received")
    await upsert(connection, alert, list(rows.values()), lambda new: {name: new[name] for name in columns})
    await connection.execute(delete(alert).where(alert.c.received < time - FORGOTTEN_SECONDS))
    kept = select(alert.c.fingerprint).order_by(alert.c.received.desc(), alert.c.fingerprint).limit(MOST)
    if (await connection.scalar(select(func.count()).select_from(alert)) or 0) > MOST:
        await connection.execute(delete(alert).where(alert.c.fingerprint.not_in(kept)))


async def read(connection: AsyncConnection) -> list[Alert]:
    """What was posted last, the newest first."""
    statement = (
        select(alert).where(alert.c.received > now() - FORGOTTEN_SECONDS).order_by(alert.c.received.desc())
    )
    return [
        Alert(
            name=row["name"],
            severity=SEVERITIES.get(row["labels"].get("severity", ""), "warning"),
            state=row["state"],
            since=row["starts"],
            summary=row["annotations"].get("summary", ""),
            labels={
                name: value for name, value in row["labels"].items() if name not in ("alertname", "severity")
            },
            runbook=row["annotations"].get("runbook_url", "") or runbook(row["name"]),
            source="alertmanager",
        )
        for row in (await connection.execute(statement)).mappings()
    ]


def _short(texts: Text) -> Text:
    return {name[:100]: value[:1000] for name, value in texts.items()}
