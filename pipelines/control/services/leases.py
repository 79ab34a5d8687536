"""Who is at a run: a lease of 15 seconds on the database's clock, with an epoch that is never given twice.

Every write under a lease names its epoch. A holder that was paused and comes back finds a higher one, and writes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import and_, or_, select, update

from ..context import Control
from ..store.database import now
from ..store.events import LeaseLost
from ..store.tables import run
from .carrier import Held
from .processes import started
from .strip import Row
from .transitions import AT_WORK

LEASE_SECONDS = 15.0
RENEW_SECONDS = 5.0
AT_ONCE = 20
"""So many expired leases are taken at a time: the rest is for others, or for the next look."""


def held_by(control: Control, place: str) -> dict[str, Any]:
    """The columns of a lease that begins now."""
    return {
        "holder": control.name, "holder_host": place[:200], "epoch": run.c.epoch + 1,
        "lease_until": now() + LEASE_SECONDS,
    }  # fmt: skip


async def take_expired(control: Control, place: str, targets: tuple[str, ...]) -> list[Row]:
    """Take runs at which nobody is any more; each as it is now. Of many who try at once one gets it.

    A holder of this place whose process is gone is not waited for until its lease has expired.

    :param targets: that we can carry.
    """
    held = and_(run.c.state.in_(AT_WORK), run.c.target.in_(targets))
    expired = run.c.lease_until < now()
    async with control.database.read() as connection:
        found = await connection.execute(
            select(run.c.id, run.c.epoch, run.c.holder, expired.label("expired"))
            .where(held, or_(expired, and_(run.c.holder_host == place[:200], run.c.holder != control.name)))
            .order_by(run.c.lease_until)
        )
        candidates = [row for row in found if row.expired or _is_gone(row.holder)][:AT_ONCE]
    taken = []
    for one in candidates:
        async with control.database.write() as connection:
            query = (
                update(run)
                .where(
                    run.c.id == one.id, run.c.epoch == one.epoch, held, *([expired] if one.expired else [])
                )
                .values(**held_by(control, place))
                .returning(run)
            )
            row: Row | None = (await connection.execute(query)).mappings().first()
        if row is not None:
            taken.append(row)
    return taken


def _is_gone(holder: str) -> bool:
    """Whether the process of this place that a holder is has ended: its number is in its name."""
    number = holder.rsplit("-", 2)[-2:][0]
    return number.isdecimal() and started(int(number)) is None


async def renew(control: Control, held: Mapping[str, int]) -> set[str]:
    """Renew leases; the runs that somebody else has by now.

    :param held: run → epoch.
    """
    if not held:
        return set()
    ours = or_(*(and_(run.c.id == name, run.c.epoch == epoch) for name, epoch in held.items()))
    async with control.database.write() as connection:
        renewed = await connection.scalars(
            update(run).where(ours).values(lease_until=now() + LEASE_SECONDS).returning(run.c.id)
        )
        return set(held) - set(renewed)


async def release(control: Control, held: Mapping[str, int]) -> None:
    """Let others take runs at once: this process ends, and what carries them out goes on."""
    if held:
        ours = or_(*(and_(run.c.id == name, run.c.epoch == epoch) for name, epoch in held.items()))
        async with control.database.write() as connection:
            await connection.execute(update(run).where(ours).values(lease_until=0.0))


async def write_held(control: Control, held: Held, **columns: Any) -> None:
    """Change a run's row under our lease.

    :raises LeaseLost: somebody else holds it.
    """
    ours = (run.c.id == held.id, run.c.epoch == held.epoch)
    async with control.database.write() as connection:
        changed = await connection.execute(update(run).where(*ours).values(**columns))
    if changed.rowcount != 1:
        raise LeaseLost("somebody else is at this run", where=held.id)
