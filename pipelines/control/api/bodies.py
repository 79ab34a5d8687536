"""What a request's body may be: 1 MiB, whole within 30 s, and JSON that every reader understands in the same way.

Python's own reader takes NaN and 1e999, keeps the last of two equal keys, and runs out of stack in deep nesting; NUL
and lone surrogates are no text to a database. Whatever is wrong is answered without being repeated.
"""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

from starlette.types import Message, Receive, Scope

from ..errors import Refused

MAX_BODY = 1 << 20
"""Bytes of a request's body: larger ones are refused with 413."""

BODY_SECONDS = 30.0
DEEPEST = 64
DIGITS = 19
"""Of a whole number: 64 bits."""

_ODD = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])")


def header(scope: Scope, name: bytes) -> bytes:
    """A header of a request; empty where there is none."""
    return next((value for key, value in scope["headers"] if key == name), b"")


async def read(scope: Scope, receive: Receive) -> bytes:
    """A request's whole body.

    :raises Refused: it is too large (413), does not come (408), or has two lengths (400): what one server reads as its body
        another reads as a further request (RFC 9112, 6.1), so that the connection ends with it.
    """
    said = header(scope, b"content-length")
    if said and header(scope, b"transfer-encoding"):
        raise Refused(
            400, "the request has two lengths", why="Content-Length stands beside Transfer-Encoding",
            headers={"Connection": "close"},
        )  # fmt: skip
    if said and (not said.isdigit() or len(said) > 12 or int(said) > MAX_BODY):
        raise _too_large()
    chunks, size = [], 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise Refused(400, "the request has ended before its body was whole")
                chunk = message.get("body", b"")
                size += len(chunk)
                if size > MAX_BODY:
                    raise _too_large()
                chunks.append(chunk)
                if not message.get("more_body"):
                    return b"".join(chunks)
    except TimeoutError:
        raise Refused(
            408, "the request's body does not come", why=f"it was not whole after {BODY_SECONDS:g} s",
            headers={"Connection": "close"},
        ) from None  # fmt: skip


def again(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives a body that was read already; then whatever comes after it."""
    given = False

    async def giving() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return giving


def check_json(body: bytes) -> None:
    """Whether a body is JSON that means one thing.

    :raises Refused: 422.
    """
    try:
        value = json.loads(
            body.decode("utf-8"),  # not any of the other encodings that Python would guess
            object_pairs_hook=_object,
            parse_constant=_constant,
            parse_float=_float,
            parse_int=_int,
        )
    except RecursionError:
        raise _odd(f"it is nested deeper than {DEEPEST}") from None
    except UnicodeDecodeError:
        raise _odd("it is not UTF-8") from None
    except json.JSONDecodeError as error:
        raise _odd(f"it ends or breaks at character {error.pos}") from None
    _check(value, text=_ODD.search(body) is not None or b"\xed" in body)


def _check(value: Any, *, text: bool) -> None:
    """The depth of a value; with `text` its texts too."""
    level = [value]
    for _ in range(DEEPEST + 1):
        deeper: list[Any] = []
        for part in level:
            if isinstance(part, dict):
                deeper.extend(part.values())
                if text:
                    deeper.extend(part)
            elif isinstance(part, list):
                deeper.extend(part)
            elif text and isinstance(part, str) and any(c == "\0" or "\ud800" <= c <= "\udfff" for c in part):
                raise _odd("a text in it has a character that is none")
        level = deeper
        if not level:
            return
    raise _odd(f"it is nested deeper than {DEEPEST}")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _odd("an object in it has the same key twice")
    return found


def _constant(text: str) -> Any:
    raise _odd(f"{text} is no number of JSON")


def _float(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise _odd("a number in it is too large")
    return number


def _int(text: str) -> int:
    if len(text.lstrip("-")) > DIGITS or not -(2**63) <= int(text) < 2**63:
        raise _odd("a number in it is too large")
    return int(text)


def _odd(why: str) -> Refused:
    return Refused(422, "the request does not fit", where="body", why=why)


def _too_large() -> Refused:
    return Refused(
        413,
        "the request is too large",
        why=f"more than {MAX_BODY >> 20} MiB",
        headers={"Connection": "close"},
    )
