"""A model's scores on the project's own suites, measured now, in the process that loads models."""

from __future__ import annotations

from typing import Any

from ..context import Control
from ..errors import Refused
from .catalogue import find
from .playground import in_process

MOST_ITEMS = 512
SECONDS = 600.0


async def evaluated(control: Control, digest: str, *, items: int, seed: int) -> dict[str, Any]:
    """Of each suite: score, Wilson interval, number of items, and what chance gives.

    :param items: of each suite, from the report split.
    :raises Refused: this process loads no models; there is no such model, too many wait, or it takes too long.
    :raises ForgeError: the model cannot be used.
    """
    if control.settings.controller_url and not control.settings.runs_runs:
        raise Refused(
            409,
            "this process loads no models",
            where="role api",
            fix=f"ask the /mcp of the controller: {control.settings.controller_url}",
        )
    found = await find(control.database, digest)
    if found.kind != "model":
        raise Refused(422, "only a model can be scored", where=digest, why=f"this is a {found.kind}")
    request = {
        "do": "evaluate",
        "digest": digest,
        "address": found.address,
        "items": items,
        "seed": seed,
    }
    scores = await in_process(control, request, SECONDS, "score a model")
    return {score.pop("suite"): score for score in scores}
