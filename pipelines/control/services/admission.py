"""Whether new runs may start beside others: not while somebody has said that there is too little room.

The queue asks (`held`). A hold ends by itself: whoever has set it says it again as long as it is true. It never keeps
a run waiting that would be alone, so that no alert can stop all work for ever.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncConnection

from ..store.database import now
from ..store.tables import admission
from ..store.upsert import upsert

HOLD_SECONDS = 600.0


@dataclass(frozen=True)
class Hold:
    """New runs wait.

    :param until: Unix seconds, where nobody says it again.
    """

    why: str
    until: float


async def held(connection: AsyncConnection) -> Hold | None:
    """Why new runs wait now; None where they need not."""
    row = (await connection.execute(select(admission).where(admission.c.until > now()))).mappings().first()
    return Hold(row["why"], row["until"]) if row else None


async def hold(connection: AsyncConnection, why: str, seconds: float = HOLD_SECONDS) -> Hold:
    """Let new runs wait, from now on for so long."""
    until = float(await connection.scalar(now().select()) or 0.0) + seconds
    found = Hold(why[:400], until)
    row = {"id": 1, "until": found.until, "why": found.why}
    await upsert(connection, admission, [row], lambda new: {"until": new.until, "why": new.why})
    return found


async def release(connection: AsyncConnection) -> bool:
    """Let them start again. Whether they had to wait."""
    return bool((await connection.execute(delete(admission))).rowcount)
