"""What a process does beside answering: by its role, started with the API and ended with it.

Each is a coroutine that works until it is cancelled. One that fails says so in the log and begins again: none takes another
with it, and none of them is needed for a run to succeed.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable

from .context import Control
from .settings import ControlSettings, Role

log = logging.getLogger("forge.control")

AGAIN_SECONDS = 5.0

Work = Callable[[Control], Awaitable[None]]

SERVICES: dict[str, tuple[Role, ...]] = {
    "services.controller": ("all", "controller"),
    "services.jobs": ("all", "controller"),
    "monitoring.lag": ("all", "api", "controller"),
}
"""Modules that have a `serve(control)`, and the roles of the processes in which it goes on."""


def work_of(settings: ControlSettings) -> dict[str, Work]:
    """What a process of this role does beside answering."""
    return {
        name: importlib.import_module(f".{name}", __package__).serve
        for name, roles in SERVICES.items()
        if settings.role in roles
    }


@contextlib.asynccontextmanager
async def working(control: Control) -> AsyncIterator[None]:
    """All of it goes on until the block ends; runs of this machine go on beyond that."""
    tasks = [
        asyncio.create_task(_on_and_on(name, work, control), name=name)
        for name, work in work_of(control.settings).items()
    ]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _on_and_on(name: str, work: Work, control: Control) -> None:
    while True:
        try:
            await work(control)
            return
        except Exception:
            log.exception("%s has failed, and begins again", name)
        await asyncio.sleep(AGAIN_SECONDS)
