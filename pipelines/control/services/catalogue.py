"""Finding models, and what people say of them: tags and pins."""

from __future__ import annotations

import re
from dataclasses import dataclass
from operator import ge, le
from typing import Any, Literal

from pydantic import BaseModel
from sqlalchemy import Row, delete, func, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from ..auth.rights import Principal
from ..errors import Refused, not_found
from ..store.database import Database
from ..store.tables import model, model_tag, principal
from ..store.upsert import upsert
from .paging import cursor_of, values_of

Order = Literal["finished", "score", "bytes"]
MOST_TAGS = 32
HEXADECIMAL = re.compile("[0-9a-f]+")


class Model(BaseModel):
    """A row of the catalogue.

    :param run: that made it; empty for one that was imported.
    :param variant: of a cognate.
    :param parameters: weights that it computes with; `bytes` is what its files take.
    :param score: the mean over the suites; None where it was not scored.
    :param finished: Unix seconds.
    :param registered: under which name it was entered into MLflow's registry; empty for none.
    """

    digest: str
    run: str
    task: str
    phase: str
    kind: str
    variant: str
    address: str
    parameters: int
    bytes: int
    score: float | None
    scores: dict[str, float]
    finished: float
    owner: str
    owner_name: str
    pinned: bool
    registered: str
    tags: list[str]


class ModelPage(BaseModel):
    """Models, and the cursor behind the last one; None at the end."""

    models: list[Model]
    next: str | None = None


@dataclass(frozen=True)
class Search:
    """What is looked for; what is empty is not asked for.

    :param digest: how it begins.
    :param text: a part of the run, the task, the variant or a tag, or how the digest begins.
    """

    phase: str = ""
    kind: str = ""
    digest: str = ""
    min_score: float | None = None
    tag: str = ""
    run: str = ""
    text: str = ""
    min_bytes: int | None = None
    max_bytes: int | None = None
    after: float | None = None
    before: float | None = None
    pinned: bool | None = None
    order: Order = "finished"


COLUMNS = (
    *(column for column in model.c if column.name != "text"),
    func.coalesce(principal.c.name, "").label("owner_name"),
)
ROWS = select(*COLUMNS).select_from(model.outerjoin(principal, principal.c.id == model.c.owner))


async def search(database: Database, wanted: Search, limit: int, cursor: str) -> ModelPage:
    """A page of the models that fit: the newest, the best or the largest first.

    :raises Refused: the cursor is none of ours.
    """
    column: Any = model.c[wanted.order]
    query = ROWS.order_by(column.desc(), model.c.digest.desc()).limit(limit + 1)
    for name in ("phase", "kind", "run"):
        if value := getattr(wanted, name):
            query = query.where(model.c[name] == value)
    if wanted.digest:
        query = query.where(model.c.digest.between(wanted.digest, wanted.digest + "g"))
    if wanted.min_score is not None:
        query = query.where(model.c.score >= wanted.min_score)
    if wanted.order == "score":
        query = query.where(model.c.score.is_not(None))
    if wanted.tag:
        query = query.where(
            model.c.digest.in_(select(model_tag.c.digest).where(model_tag.c.tag == wanted.tag))
        )
    if wanted.pinned is not None:
        query = query.where(model.c.pinned == wanted.pinned)
    for bound, column_of, compare in (
        (wanted.min_bytes, model.c.bytes, ge), (wanted.max_bytes, model.c.bytes, le),
        (wanted.after, model.c.finished, ge), (wanted.before, model.c.finished, le),
    ):  # fmt: skip
        if bound is not None:
            query = query.where(compare(column_of, bound))
    if wanted.text:
        tagged = select(model_tag.c.digest).where(model_tag.c.tag.icontains(wanted.text, autoescape=True))
        text = wanted.text.lower()
        fits = model.c.text.contains(text, autoescape=True) | model.c.digest.in_(tagged)
        if HEXADECIMAL.fullmatch(text):
            fits |= model.c.digest.between(text, text + "g")  # the digests that begin so
        query = query.where(fits)
    if cursor:
        kind = int if wanted.order == "bytes" else float
        query = query.where(
            tuple_(column, model.c.digest) < tuple_(*values_of(cursor, wanted.order, kind, str))
        )
    async with database.read() as connection:
        rows = (await connection.execute(query)).all()
        tags = await tags_of(connection, [row.digest for row in rows])
    models = [shape(row, tags.get(row.digest, [])) for row in rows[:limit]]
    more = len(rows) > limit
    return ModelPage(
        models=models,
        next=cursor_of(wanted.order, getattr(models[-1], wanted.order), models[-1].digest)
        if more and models
        else None,
    )


def shape(row: Row[Any], tags: list[str]) -> Model:
    """A row as the API says it."""
    return Model(**row._mapping, tags=tags)


async def row_of(connection: AsyncConnection, digest: str) -> Row[Any]:
    """The row of a model.

    :raises Refused: the catalogue has none of this digest.
    """
    row = (await connection.execute(ROWS.where(model.c.digest == digest))).first()
    if row is None:
        raise not_found("there is no such model", digest[:80], "GET /models lists them")
    return row


async def owned_row(connection: AsyncConnection, digest: str, who: Principal) -> Row[Any]:
    """The row of a model that they may change.

    :raises Refused: there is none of this digest, or it is another's.
    """
    row = await row_of(connection, digest)
    if not who.owns(row.owner):
        raise not_found(
            "there is no such model of yours", digest[:80], "only its owner or an admin changes it"
        )
    return row


async def tags_of(connection: AsyncConnection, digests: list[str]) -> dict[str, list[str]]:
    """The tags of models, in the order of the alphabet."""
    query = select(model_tag).where(model_tag.c.digest.in_(digests)).order_by(model_tag.c.tag)
    tags: dict[str, list[str]] = {}
    for row in await connection.execute(query):
        tags.setdefault(row.digest, []).append(row.tag)
    return tags


async def find(database: Database, digest: str) -> Model:
    """A model of the catalogue.

    :raises Refused: it has none of this digest.
    """
    async with database.read() as connection:
        row = await row_of(connection, digest)
        return shape(row, (await tags_of(connection, [digest])).get(digest, []))


async def tag(database: Database, digest: str, name: str, who: Principal) -> Model:
    """Give a model a tag; a second time changes nothing.

    :raises Refused: no such model of theirs, or it has too many tags.
    """
    async with database.write() as connection:
        await owned_row(connection, digest, who)
        tags = (await tags_of(connection, [digest])).get(digest, [])
        if name not in tags and len(tags) >= MOST_TAGS:
            raise Refused(422, f"a model has {MOST_TAGS} tags at most", where=digest, fix="remove one")
        await upsert(connection, model_tag, [{"digest": digest, "tag": name}])
    return await find(database, digest)


async def untag(database: Database, digest: str, name: str, who: Principal) -> Model:
    """Take a tag from a model, where it has it.

    :raises Refused: no such model of theirs.
    """
    async with database.write() as connection:
        await owned_row(connection, digest, who)
        await connection.execute(
            delete(model_tag).where(model_tag.c.digest == digest, model_tag.c.tag == name)
        )
    return await find(database, digest)


async def pin(database: Database, digest: str, pinned: bool, who: Principal) -> Model:
    """Pin a model, so that nothing removes it, or let it go.

    :raises Refused: no such model of theirs.
    """
    async with database.write() as connection:
        await owned_row(connection, digest, who)
        await connection.execute(update(model).where(model.c.digest == digest).values(pinned=pinned))
    return await find(database, digest)
