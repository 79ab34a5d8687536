"""What a process without models asks of the one that has them: the same request, in the name of the same principal."""

from __future__ import annotations

from typing import Any

import httpx2
from fastapi import Request

from ..context import Control
from ..errors import Refused

SECONDS = 660.0
PASSED = ("authorization", "x-api-key", "if-match", "idempotency-key")
"""Headers that go with the request: who asks, and of which version."""


def elsewhere(control: Control) -> bool:
    """Whether the models, and what runs need, are with another process."""
    return control.settings.role == "api" and bool(control.settings.controller_url)


async def from_controller(control: Control, request: Request, body: dict[str, Any]) -> dict[str, Any]:
    """The controller's answer to a request that came here.

    :raises Refused: it says no, or does not answer.
    """
    address = control.settings.controller_url.rstrip("/") + request.url.path
    headers = {name: request.headers[name] for name in PASSED if name in request.headers}
    try:
        async with httpx2.AsyncClient(timeout=SECONDS, follow_redirects=False) as client:
            answer = await client.post(address, json=body, headers=headers)
            content = answer.json()
    except (httpx2.HTTPError, ValueError) as error:
        raise Refused(
            503, "the controller does not answer", where=control.settings.controller_url, why=type(error).__name__,
            fix="is `forge control --role controller` up? PHASE_CONTROLLER_URL names it",
            headers={"Retry-After": "5"},
        ) from error  # fmt: skip
    if answer.status_code >= 300 or not isinstance(content, dict):
        said = content if isinstance(content, dict) else {}
        what, where, why, fix = (str(said.get(name) or "")[:1000] for name in ("what", "where", "why", "fix"))
        state = said.get("state")
        raise Refused(
            answer.status_code, what or "the controller refuses", where=where, why=why, fix=fix,
            state=state if isinstance(state, dict) else None,
        )  # fmt: skip
    return content
