"""Where a model comes from, what was made of it, who reads it, and where it has gone: from the database alone."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import BaseModel
from sqlalchemy import Column, exists, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from ..store.database import Database
from ..store.tables import deployment, model, model_parent, model_use, run
from .catalogue import row_of
from .models import MADE

MOST = 500
"""Models that are shown of a lineage."""


class Node(BaseModel):
    """A model of a lineage.

    :param distance: generations from the model that was asked for: parents are -1, children 1.
    :param known: whether the catalogue has it: a base model from elsewhere it may not have.
    """

    digest: str
    distance: int
    known: bool
    phase: str = ""
    variant: str = ""
    run: str = ""
    score: float | None = None
    bytes: int = 0
    finished: float = 0.0


class Edge(BaseModel):
    """That `child` was made from `parent`."""

    parent: str
    child: str


class Use(BaseModel):
    """A task that has made the model, or taken it from the cache (`made`), or was given it (`read`)."""

    run: str
    task: str
    role: str
    state: str
    time: float


class Deployment(BaseModel):
    """A form of the model for another program, and where it was written to.

    :param state: writing, written, failed.
    """

    target: str
    address: str
    state: str
    notes: list[str]
    created: float


class Lineage(BaseModel):
    """A model among its ancestors and descendants.

    :param registered: its name in MLflow's registry; empty for none.
    :param cut: there are more models than are shown.
    """

    digest: str
    nodes: list[Node]
    edges: list[Edge]
    uses: list[Use]
    deployments: list[Deployment]
    registered: str
    cut: bool


async def lineage(database: Database, digest: str, depth: int) -> Lineage:
    """The lineage of a model, both ways.

    :param depth: generations each way.
    :raises Refused: there is no such model.
    """
    async with database.read() as connection:
        row = await row_of(connection, digest)
        distances, edges = {digest: 0}, set[tuple[str, str]]()
        columns = model_parent.c
        for here, there, sign in ((columns.child, columns.parent, -1), (columns.parent, columns.child, 1)):
            newest = {digest}
            for generation in range(1, depth + 1):
                if not newest or len(distances) > MOST:
                    break
                found = await _next(connection, here, there, newest)
                edges |= {pair if sign < 0 else (pair[1], pair[0]) for pair in found}
                newest = {other for _, other in found} - set(distances)
                distances |= {other: sign * generation for other in newest}
        shown = sorted(distances, key=lambda other: (abs(distances[other]), other))[:MOST]
        nodes = await _nodes(connection, shown, distances)
        return Lineage(
            digest=digest,
            nodes=nodes,
            edges=[
                Edge(parent=parent, child=child)
                for child, parent in sorted(edges)
                if parent in distances and child in distances and {parent, child} <= set(shown)
            ],
            uses=await uses(connection, digest),
            deployments=await deployments(connection, digest),
            registered=row.registered,
            cut=len(distances) > len(shown),
        )


async def _next(
    connection: AsyncConnection, here: Column[str], there: Column[str], digests: Iterable[str]
) -> list[tuple[str, str]]:
    """The next generation of models, as pairs (one of `digests`, its parent or child)."""
    query = select(here, there).where(here.in_(list(digests))).limit(2 * MOST)
    return [(first, second) for first, second in await connection.execute(query)]


async def _nodes(connection: AsyncConnection, digests: list[str], distances: dict[str, int]) -> list[Node]:
    rows = {
        row.digest: row for row in await connection.execute(select(model).where(model.c.digest.in_(digests)))
    }
    nodes = []
    for digest in digests:
        row = rows.get(digest)
        said = (
            {name: getattr(row, name) for name in ("phase", "variant", "run", "score", "bytes", "finished")}
            if row is not None
            else {}
        )
        nodes.append(Node(digest=digest, distance=distances[digest], known=row is not None, **said))
    return nodes


async def uses(connection: AsyncConnection, digest: str) -> list[Use]:
    """The tasks that have made or read a model, the newest first, a hundred at most."""
    query = (
        select(model_use, run.c.state)
        .select_from(model_use.outerjoin(run, run.c.id == model_use.c.run))
        .where(model_use.c.digest == digest, model_use.c.run != "")
        .order_by(model_use.c.time.desc())
        .limit(100)
    )
    return [
        Use(run=row.run, task=row.task, role=row.role, state=row.state or REMOVED, time=row.time)
        for row in await connection.execute(query)
    ]


async def deployments(connection: AsyncConnection, digest: str) -> list[Deployment]:
    """The forms in which a model was written for other programs."""
    query = select(deployment).where(deployment.c.digest == digest).order_by(deployment.c.target)
    return [
        Deployment(
            target=row.target, address=row.address, state=row.state, notes=row.notes, created=row.created
        )
        for row in await connection.execute(query)
    ]


async def references(connection: AsyncConnection, digest: str, *, besides: str = "") -> list[str]:
    """What refers to a model, so that it cannot be removed: in words, eight of a kind at most.

    :param besides: a run whose own models and tasks do not count, as it goes too.
    """
    row = await row_of(connection, digest)
    found = ["it is pinned"] if row.pinned else []
    children = await connection.scalars(
        select(model_parent.c.child)
        .join(model, model.c.digest == model_parent.c.child)
        .where(model_parent.c.parent == digest, or_(model.c.run != besides, model.c.run == ""))
        .limit(8)
    )
    found += [f"the model {child} was made from it" for child in children]
    for use in await uses(connection, digest):
        if use.role != MADE and use.run not in (row.run, besides) and use.state != REMOVED:
            found.append(f"the run {use.run} reads it ({use.task}, {use.state})")
    if row.run and row.run != besides:
        state = await connection.scalar(select(run.c.state).where(run.c.id == row.run))
        if state in ALIVE:
            found.append(f"its run {row.run} is {state}")
    for written in await deployments(connection, digest):
        found.append(f"it is deployed as {written.target} in {written.address}")
    return found


async def references_to_run(connection: AsyncConnection, run_id: str) -> list[str]:
    """What refers to the models of a run, so that it cannot be removed. One of which another run has a copy is not lost."""
    other = model_use.alias()
    only_here = (
        select(model.c.digest)
        .where(
            model.c.run == run_id,
            ~exists().where(other.c.digest == model.c.digest, other.c.role == MADE, other.c.run != run_id),
        )
        .order_by(model.c.digest)
    )
    digests = (await connection.scalars(only_here)).all()
    return [
        f"{reason} ({digest[:12]})"
        for digest in digests
        for reason in await references(connection, digest, besides=run_id)
    ]


REMOVED = "removed"
"""The state of a run that is no more."""

ALIVE = ("queued", "starting", "running", "cancelling")
"""States of runs that may still read what they were given."""
