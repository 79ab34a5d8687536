"""Whether new runs may start beside others: not while somebody has said that there is too little room.

The queue asks (`held`). A hold ends by itself: whoever has set it says it again as long as it is true. It never keeps
a run waiting that would be alone, so that no alert can stop all work for ever.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncConnection

from ..store.database import now
from ..store.tables import admission
from ..store.upsert import upsert
from .pools import Grant
from .queue import Waiting

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


def keep_back(
    order: Sequence[Waiting], begin: dict[str, Grant], why: dict[str, str], hold: Hold, *, busy: bool
) -> None:
    """Let those wait that would begin on this machine beside others; what runs on a cluster takes no room here.

    :param begin: of those that may begin: who must wait is taken out of it, and put into `why`.
    :param busy: a run goes on here already.
    """
    for one in order:
        if one.anywhere or one.run not in begin:
            continue
        if busy:
            del begin[one.run]
            why[one.run] = f"{hold.why}; it waits while others go on"
        busy = True


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
