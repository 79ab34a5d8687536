"""Rows that may be there already: `INSERT … ON CONFLICT`, which both databases know and SQLAlchemy has no one word for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

Excluded = Any
"""The row that was to be inserted, by its columns."""

Changes = Callable[[Excluded], Mapping[str, Any]]


async def upsert(
    connection: AsyncConnection,
    table: Table,
    rows: Sequence[Mapping[str, Any]],
    changes: Changes | None = None,
    where: Callable[[Excluded], ColumnElement[bool]] | None = None,
) -> int:
    """Insert rows; where one of that primary key is there, change it.

    :param changes: column → value, of the row that was to be inserted; None leaves the old row as it is.
    :param where: of an old row that is changed.
    :returns: how many rows were written, as the driver counts them; of one row exactly.
    """
    if not rows:
        return 0
    key = [column.name for column in table.primary_key]
    insert = (sqlite if connection.dialect.name == "sqlite" else postgresql).insert(table)
    if changes is None:
        statement: Any = insert.on_conflict_do_nothing(index_elements=key)
    else:
        statement = insert.on_conflict_do_update(
            index_elements=key,
            set_=dict(changes(insert.excluded)),
            where=where(insert.excluded) if where is not None else None,
        )
    given = [dict(row) for row in rows]
    result = await connection.execute(statement, given[0] if len(given) == 1 else given)
    return int(result.rowcount)
