"""`forge doctor` as a checklist. It runs in a process of its own: it looks whether torch can be loaded."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

from pydantic import BaseModel

from ..context import Control
from ..errors import Refused

SECONDS = 60.0
FRESH = 30.0
"""Seconds for which a checklist is taken again: it costs a process."""


class Check(BaseModel):
    """A line: ok, warn (it works, but) or fail (a run would not)."""

    verdict: str
    what: str
    found: str
    fix: str = ""


class Checklist(BaseModel):
    """Whether everything is there that a run needs.

    :param checked: Unix seconds.
    """

    healthy: bool
    findings: list[Check]
    checked: float


async def checklist(control: Control) -> Checklist:
    """What this machine and its services look like to a run, at most half a minute old.

    :raises Refused: the look has not ended in a minute.
    """
    async with control.checking:
        if control.checked is None or time.time() - control.checked["checked"] > FRESH:
            control.checked = {**await _examined(control), "checked": time.time()}
        return Checklist(**control.checked)


async def _examined(control: Control) -> dict[str, Any]:
    settings = control.settings
    arguments = ["--runs", str(settings.runs), "--namespace", settings.kfp_namespace, "--json"]
    arguments += ["--store", settings.store] if settings.store else []
    arguments += ["--host", settings.kfp_host] if settings.kfp_host else []
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "pipelines.cli", "doctor", *arguments,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(SECONDS):
            said, _ = await process.communicate()
        content: dict[str, Any] = json.loads(said)
    except (TimeoutError, ValueError) as error:
        raise Refused(
            504, "the doctor has not ended", why=f"{type(error).__name__} after {SECONDS:.0f} s at most",
            fix="forge doctor on the machine of the server shows where it waits",
        ) from error  # fmt: skip
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return content
