"""Pages by the last row of the one before: no row is counted, none is passed over by number."""

from __future__ import annotations

import base64
import binascii
import json
import math
from typing import Any

from ..errors import Refused

LONGEST = 1000


def cursor_of(of: str, *values: str | float | int) -> str:
    """The cursor behind a row with these values, in the list `of`: in another list it leads nowhere."""
    return base64.urlsafe_b64encode(json.dumps([of, *values]).encode()).decode().rstrip("=")


def values_of(cursor: str, of: str, *kinds: type) -> tuple[Any, ...]:
    """The values that a cursor of the list `of` holds.

    :param kinds: of the values, in their order: float takes an integer too.
    :raises Refused: it is none of ours.
    """
    try:
        if len(cursor) > LONGEST:
            raise ValueError
        whole = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        if not isinstance(whole, list) or whole[:1] != [of] or len(whole) != 1 + len(kinds):
            raise ValueError
        values = whole[1:]
        return tuple(_checked(value, kind) for value, kind in zip(values, kinds, strict=True))
    except (ValueError, binascii.Error, RecursionError):
        raise Refused(
            422,
            "this cursor is none of ours",
            where="cursor",
            fix="take the one that the page before has given",
        ) from None


def _checked(value: Any, kind: type[Any]) -> Any:
    if kind is float and type(value) is int:
        value = float(value)
    if not isinstance(value, str | int | float) or type(value) is not kind:
        raise ValueError
    if isinstance(value, str):
        fits = value.isprintable() and "\x00" not in value
    else:
        fits = math.isfinite(float(value)) and abs(float(value)) < 2**63
    if not fits:
        raise ValueError
    return value
