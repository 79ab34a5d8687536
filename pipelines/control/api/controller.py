"""What a process without models and runs asks of the one that has them: the same request, by the same principal."""

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


async def from_controller(
    control: Control, request: Request, body: dict[str, Any] | None = None
) -> dict[str, Any]:
    """The controller's answer to a request that came here.

    :param body: of the request; None where it has none.
    :raises Refused: it says no, or does not answer.
    """
    try:
        content = (await _answered(control, request, body)).json()
    except ValueError as error:
        raise _away(control, error) from error
    if not isinstance(content, dict):
        raise Refused(503, "the controller answers something else", where=control.settings.controller_url)
    return content


async def text_from_controller(control: Control, request: Request) -> str:
    """The same, where the answer is a page.

    :raises Refused: it says no, or does not answer.
    """
    return (await _answered(control, request, None)).text


async def _answered(control: Control, request: Request, body: dict[str, Any] | None) -> httpx2.Response:
    address = control.settings.controller_url.rstrip("/") + request.url.path
    headers = {name: request.headers[name] for name in PASSED if name in request.headers}
    try:
        async with httpx2.AsyncClient(timeout=SECONDS, follow_redirects=False) as client:
            answer = await client.request(request.method, address, json=body, headers=headers)
            refused = answer.json() if answer.status_code >= 300 else None
    except (httpx2.HTTPError, ValueError) as error:
        raise _away(control, error) from error
    if answer.status_code >= 300:
        said = refused if isinstance(refused, dict) else {}
        what, where, why, fix = (str(said.get(name) or "")[:1000] for name in ("what", "where", "why", "fix"))
        state = said.get("state")
        raise Refused(
            answer.status_code, what or "the controller refuses", where=where, why=why, fix=fix,
            state=state if isinstance(state, dict) else None,
        )  # fmt: skip
    return answer


def _away(control: Control, error: Exception) -> Refused:
    return Refused(
        503, "the controller does not answer", where=control.settings.controller_url, why=type(error).__name__,
        fix="is `forge control --role controller` up? PHASE_CONTROLLER_URL names it",
        headers={"Retry-After": "5"},
    )  # fmt: skip
