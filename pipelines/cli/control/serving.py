"""What the commands that serve have in common: the packages they need, and what they say once the server answers."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from components.shared.runtime.errors import ConfigError

from ..options import say

if TYPE_CHECKING:
    from ...control.context import Control
    from ...control.settings import ControlSettings

NEEDED = ("fastapi", "uvicorn", "sqlalchemy", "jwt", "limits", "aiosqlite", "websockets")


def need_packages() -> None:
    """:raises ConfigError: the control plane's packages are not installed."""
    from importlib.util import find_spec

    if missing := [name for name in NEEDED if find_spec(name) is None]:
        raise ConfigError(
            "the control plane is not installed",
            why=f"missing: {', '.join(missing)}",
            fix="pip install 'agent-forge[control]'",
        )


def serve(settings: ControlSettings, *, greet: Callable[[str, str], None], every_start: bool) -> None:
    """Serve until a signal ends it.

    :param greet: called with the server's address and a one-time link's, where there is one.
    :param every_start: whether each start gives a link, not only the first.
    """
    from ...control import server
    from ...control.api.app import application
    from ...control.auth import principals, sessions

    app = application(settings)

    async def ready(address: str) -> None:
        if settings.role == "page":  # it knows nobody
            greet(address, "")
            return
        control: Control = app.state.control
        link = ""
        if every_start or control.admin_key:
            async with control.database.write() as connection:
                if admin := await principals.first_admin(connection):
                    link = f"{address}/#link={await sessions.make_link(connection, admin)}"
        greet(address, link)
        if control.admin_key:
            say(f"the first admin's key is in {control.admin_key}")

    server.serve(app, settings, ready)


def log_to_stderr(level: int, *, requests: bool) -> None:
    """Where the server's log goes: plain lines on a terminal, else JSON; with `requests`, one for each."""
    from ...control.monitoring import logs

    logs.configure(level=level)
    logging.getLogger("forge.access").setLevel(logging.INFO if requests else logging.WARNING)
