"""`forge keys`: who may ask the API, said on the machine that has its database."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from ..options import AsJson, say

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Make, list and revoke keys of the API, on the machine that has its database (DATABASE_URL, or --runs).",
)

Folder = Annotated[
    Path | None, typer.Option("--runs", help="The folder of all runs. [default: FORGE_RUNS, else runs]")
]
T = TypeVar("T")


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="What the key is for.")],
    scope: Annotated[
        list[str],
        typer.Option(
            metavar="RESOURCE:ACTION",
            default_factory=list,
            show_default=False,
            help="The key may this alone; repeatable.",
        ),
    ],
    owner: Annotated[
        str, typer.Option(help="Whose key: a principal's name; one that is not there is made.")
    ] = "admin",
    role: Annotated[
        str, typer.Option(help="viewer, operator or admin, of an owner that is made.")
    ] = "viewer",
    days: Annotated[float | None, typer.Option(min=0.01, max=3650, help="After which it expires.")] = None,
    runs: Folder = None,
) -> None:
    """Make a key and print it: this one time.

    \b
    forge keys create laptop
    forge keys create ci --owner ci --role operator --days 90
    forge keys create grafana --owner grafana --scope metrics:read
    """
    from components.shared.runtime.errors import ConfigError
    from components.shared.runtime.wording import did_you_mean

    roles = ("viewer", "operator", "admin")
    if role not in roles:
        raise ConfigError(f"there is no role {role!r}", where="--role", fix=did_you_mean(role, roles))

    async def make(connection: AsyncConnection) -> str:
        from ...control.auth import audit, keys, principals
        from ...control.errors import Refused

        try:
            id = (await principals.by_name(connection, owner))["id"]
        except Refused:
            id = await principals.create(connection, owner, role)  # type: ignore[arg-type]
        made = await keys.make(
            connection,
            "key",
            principal=id,
            name=principals.named(name),
            scopes=scope,
            seconds=None if days is None else days * 86400,
        )
        await audit.record(connection, None, "forge keys create", made.id, detail={"owner": owner})
        return made.text

    typer.echo(_done(runs, make))


@app.command("list")
def list_(runs: Folder = None, as_json: AsJson = False) -> None:
    """List the keys: whose, for what, since when, until when.

    \b
    forge keys list
    """

    async def read(connection: AsyncConnection) -> list[dict[str, Any]]:
        from ...control.auth import keys

        return await keys.listed(connection)

    import json
    import time

    found = _done(runs, read)
    if as_json:
        typer.echo(json.dumps({"keys": found}, indent=1))
        return
    for row in found:
        state = (
            "revoked"
            if row["revoked"]
            else "expired"
            if (row["expires"] or 1e12) < time.time()
            else row["role"]
        )
        say(
            f"{row['id']}  {row['principal_name']}  {state}  {row['name']}  {' '.join(row['scopes'])}".rstrip()
        )


@app.command()
def revoke(
    id: Annotated[str, typer.Argument(help="The key's id, of `forge keys list`.")], runs: Folder = None
) -> None:
    """End a key: on every replica, from the next request on.

    \b
    forge keys revoke 0b9a5bd37a1e4c3f8f6f0d1f6f0f0a10
    """

    async def end(connection: AsyncConnection) -> None:
        from ...control.auth import audit, keys

        await keys.revoke(connection, id)
        await audit.record(connection, None, "forge keys revoke", id)

    _done(runs, end)
    say("revoked")


@app.command()
def link(
    name: Annotated[str, typer.Argument(help="Who shall sign in: a principal's name.")] = "admin",
    runs: Folder = None,
) -> None:
    """Print a one-time link's ending, good for ten minutes: put it behind the page's address.

    \b
    forge keys link
    """

    async def make(connection: AsyncConnection) -> str:
        from ...control.auth import audit, principals, sessions

        id = (await principals.by_name(connection, name))["id"]
        await audit.record(connection, None, "forge keys link", id)
        return await sessions.make_link(connection, id)

    typer.echo(f"/#link={_done(runs, make)}")


def _done(runs: Path | None, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
    """Do something in one transaction of the control plane's database."""
    from . import serving

    serving.need_packages()
    from ...control.auth import principals
    from ...control.settings import from_environment, own_folder
    from ...control.store import migrate
    from ...control.store.database import Database

    async def doing() -> T:
        settings = from_environment(runs=runs)
        own_folder(settings)
        database = Database(settings.database)
        try:
            await migrate.upgrade(database)
            if key := await principals.first_start(
                settings, database
            ):  # before another makes it not the first
                typer.echo(f"the first admin's key is in {key}", err=True)
            async with database.write() as connection:
                return await work(connection)
        finally:
            await database.close()

    return asyncio.run(doing())
