"""`forge control`: one process of the control plane, or all of it, as a server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..options import say

ROLES = ("all", "api", "controller", "page")


def control(
    role: Annotated[
        str,
        typer.Option(help="all; or api (8083), controller (8084, which does the runs' work), page (3000)."),
    ] = "all",
    host: Annotated[
        str, typer.Option(help="Where to listen; beyond this machine TLS or a declared proxy is needed.")
    ] = "127.0.0.1",
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="In place of the role's.")] = None,
    runs: Annotated[
        Path | None, typer.Option(help="The folder of all runs. [default: FORGE_RUNS, else runs]")
    ] = None,
) -> None:
    """Serve the control plane: the API, the controller, the page, or all of them in one process.

    \b
    forge control
    DATABASE_URL=postgresql://… REDIS_URL=redis://… JWT_SECRET=… forge control --role api --host 0.0.0.0
    forge control --role controller

    All other settings are environment variables: DATABASE_URL, REDIS_URL, JWT_SECRET, FORGE_HOSTS, FORGE_ORIGINS,
    FORGE_TLS_CERTIFICATE, FORGE_PROXY, …; pipelines/control/settings.py has all of them.
    """
    from components.shared.runtime.errors import ConfigError
    from components.shared.runtime.wording import did_you_mean

    if role not in ROLES:
        raise ConfigError(f"there is no role {role!r}", where="--role", fix=did_you_mean(role, ROLES))
    from . import serving

    serving.need_packages()
    import logging

    from ...control.settings import API_PORT, CONTROLLER_PORT, PAGE_PORT, from_environment

    ports = {"controller": CONTROLLER_PORT, "page": PAGE_PORT}
    chosen = ports.get(role, API_PORT) if port is None else port
    settings = from_environment(role=role, host=host, port=chosen, runs=runs)
    serving.log_to_stderr(logging.INFO, requests=True)

    def greet(address: str, link: str) -> None:
        say(f"{role} answers at {address}")
        if link:
            say(f"the first admin signs in here, once, within ten minutes: {link}")

    serving.serve(settings, greet=greet, every_start=False)
