"""Confirmations of `/mcp` that are replayed, stretched, passed on or made up."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from sqlalchemy import insert, select, update

from pipelines.control.auth.rights import Principal
from pipelines.control.context import opened
from pipelines.control.mcp import confirmation as ours
from pipelines.control.store.tables import run
from tests.attack_api.attack import attack, refused
from tests.attack_api.target import Target, settings_of

ACCEPT = {"Accept": "application/json, text/event-stream"}


def called(
    target: Target, who: str, tool: str, arguments: Mapping[str, Any]
) -> tuple[bool, dict[str, Any], str]:
    """Whether a tool was refused, what it said, and its text."""
    message = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tools/call",
        "params": {"name": tool, "arguments": arguments},
    }
    with target.http(who, **ACCEPT) as http:
        answer = http.post("/mcp", json=message)
    refused(
        answer.status_code == 200, f"{tool} by {who}: {answer.status_code}"
    )  # the protocol's, of an error too
    result = answer.json().get("result", {})
    return bool(result.get("isError", True)), result.get("structuredContent") or {}, answer.text


def placed(target: Target, name: str, owner: str = "operator") -> dict[str, Any]:
    """A run that waits, and could be stopped."""
    row = {"id": name, "state": "queued", "owner": target.ids[owner], "created": time.time()}
    target.in_database(lambda connection: connection.execute(insert(run).values(row)))
    return {"run": name}


def confirmation(target: Target, who: str, tool: str, arguments: Mapping[str, Any]) -> str:
    """What the first call gives."""
    failed, said, text = called(target, who, tool, arguments)
    refused(
        not failed and said.get("confirmation") and not said["done"], f"no preview of {tool}: {text[:300]}"
    )
    return str(said["confirmation"])


def state(target: Target, name: str) -> str:
    """Of a run."""
    return str(
        target.in_database(lambda connection: connection.scalar(select(run.c.state).where(run.c.id == name)))
    )


@attack("confirmations")
def replayed(target: Target) -> None:
    """Once is once: after it was used, and eight at the same moment."""
    wish = placed(target, "replayed")
    wish["confirmation"] = confirmation(target, "operator", "cancel", wish)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: called(target, "operator", "cancel", wish), range(8)))
    refused(
        sum(not failed for failed, _, _ in answers) == 1,
        "one confirmation stopped it more than once, or never",
    )
    row = {"state": "queued", "asked": "", "finished": None}
    target.in_database(
        lambda connection: connection.execute(update(run).where(run.c.id == "replayed").values(row))
    )
    for _ in range(2):
        failed, _, _ = called(target, "operator", "cancel", wish)
        refused(
            failed and state(target, "replayed") == "queued", "a confirmation that was used is good again"
        )


@attack("confirmations")
def for_something_else(target: Target) -> None:
    """Another run, another tool, more arguments, another state of the run."""
    one, two = placed(target, "confirmed"), placed(target, "never-confirmed")
    given = confirmation(target, "operator", "cancel", one)
    failed, _, _ = called(target, "operator", "cancel", two | {"confirmation": given})
    refused(failed and state(target, "never-confirmed") == "queued", "it is good for another run")
    failed, said, _ = called(target, "operator", "resume", one | {"confirmation": given})
    refused(failed or not said.get("done"), "it is good for another tool")
    begun = {"profile": "micro", "end_phase": "cognate", "name": "begun"}
    given = confirmation(target, "operator", "run", begun)
    for more in ({"name": "other"}, {"priority": 10}, {"seed": 1}, {"overrides": ["cognate.steps=1"]}):
        failed, said, _ = called(target, "operator", "run", begun | more | {"confirmation": given})
        refused(failed or not said.get("done"), f"it is good with {more}")
    given = confirmation(target, "operator", "cancel", one)
    changed = update(run).where(run.c.id == "confirmed").values(version=run.c.version + 1)
    target.in_database(lambda connection: connection.execute(changed))
    failed, _, _ = called(target, "operator", "cancel", one | {"confirmation": given})
    refused(failed and state(target, "confirmed") == "queued", "it is good for another state of the run")


@attack("confirmations")
def of_somebody_else(target: Target) -> None:
    """An admin may stop the run, but has shown nobody the preview; a viewer may not at all."""
    wish = placed(target, "passed-on")
    wish["confirmation"] = confirmation(target, "operator", "cancel", wish)
    for who in ("admin", "other", "viewer", "scoped"):
        failed, _, _ = called(target, who, "cancel", wish)
        refused(failed and state(target, "passed-on") == "queued", f"{who} uses what the operator was given")


@attack("confirmations")
def made_up(target: Target) -> None:
    """Longer ones, others' words, nothing, and what no reader of them expects."""
    wish = placed(target, "made-up")
    given = confirmation(target, "operator", "cancel", wish)
    text, mac = given.split(".")
    content = json.loads(base64.urlsafe_b64decode(text))

    def said(**other: Any) -> str:
        return base64.urlsafe_b64encode(json.dumps(content | other).encode()).decode()

    for forged in (
        f"{said(expires=content['expires'] + 3600)}.{mac}",
        f"{said(nonce='0' * 32)}.{mac}",
        f"{said(expires='NaN')}.{mac}",
        f"{said(expires=1e400)}.{mac}",
        f"{said(nonce=['a'])}.{mac}",
        f"{text}.{'0' * len(mac)}",
        f"{text}.",
        f".{mac}",
        f"{text}.{mac}.{mac}",
        f"{text}.{mac}=",
        f"{text}.{mac.upper()}",
        f"{base64.b64encode(b'[' * 300).decode()}.{mac}",
        "true",
        " ",
        "a" * 501,
        "\u0661." + mac,
        f"{text}.\u0661",
    ):
        failed, _, answer = called(target, "operator", "cancel", wish | {"confirmation": forged})
        refused(failed and state(target, "made-up") == "queued", f"{forged[:80]!r} is taken")
        refused(
            "Traceback" not in answer and "hmac" not in answer.lower(), f"{forged[:80]!r}: {answer[:300]}"
        )


@attack("confirmations")
def that_has_expired(target: Target) -> None:
    """A genuine one, of a moment that is over: made with the server's own secret."""
    wish = placed(target, "expired")

    async def made(seconds: float) -> str:
        key = f"key:{target.ids['key of operator']}"
        who = Principal(target.ids["operator"], "the operator", "operator", credential=key)
        kept, ours.SECONDS = ours.SECONDS, seconds
        try:
            async with opened(settings_of(target)) as control:
                return await ours.issued(control, who, "cancel", wish, 1)
        finally:
            ours.SECONDS = kept

    for seconds, taken in ((-1.0, False), (300.0, True)):
        given = asyncio.run(made(seconds))
        failed, _, answer = called(target, "operator", "cancel", wish | {"confirmation": given})
        refused(
            failed is not taken,
            f"one of {seconds:.0f} s is {'refused' if taken else 'taken'}: {answer[:300]}",
        )
