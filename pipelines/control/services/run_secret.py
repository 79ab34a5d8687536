"""The Secret of a run: where its pods find the API, and the token with which they send their run's events there.

Without the cluster's API there is none, and without FORGE_API_URL nothing to put into it: pods then tell the store alone.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging

from ...kubeflow.state.pods import Kubernetes, problem
from ..auth import keys
from ..context import Control

log = logging.getLogger("forge.control")

KEYS = {"url": "FORGE_API_URL", "token": "FORGE_RUN_TOKEN"}
"""Its keys, and what they are called in a pod's environment."""


def name_of(run: str) -> str:
    """What the Secret of a run is called."""
    return f"forge-run-{hashlib.sha256(run.encode()).hexdigest()[:24]}"


async def made(control: Control, run: str, kubernetes: Kubernetes | None) -> bool:
    """Make it, with a new token. False where there is no way to, which is no error: pods tell the store."""
    url = control.settings.pods_url
    if kubernetes is None or not url:
        return False
    async with control.database.write() as connection:
        await keys.revoke_run_tokens(connection, run)
        token = await keys.run_token(connection, run)
    try:
        await asyncio.to_thread(kubernetes.keep_secret, name_of(run), {"url": url, "token": token})
    except Exception as error:  # whatever a cluster, its proxy or its certificates answer
        log.warning("the pods of %s tell the store only: no Secret can be made: %s", run, problem(error))
        return False
    return True


async def removed(control: Control, run: str, kubernetes: Kubernetes | None) -> None:
    """End the run's tokens, and delete the Secret."""
    async with control.database.write() as connection:
        await keys.revoke_run_tokens(connection, run)
    if kubernetes is None or not control.settings.pods_url:
        return
    try:
        await asyncio.to_thread(kubernetes.delete_secret, name_of(run))
    except Exception as error:  # as above; what is in it is worth nothing any more
        log.warning("the Secret %s is left behind: %s", name_of(run), problem(error))
