"""JSON that every database and every reader takes: bounded, without NaN, NUL and half characters."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

MAX_DATA = 64 << 10
"""Bytes of one event's data. Beyond, long texts and lists of it are cut."""

CUTS = ((2_000, 30), (300, 30))
"""Characters of a text and elements of a list that are left, by the first cut and, where that is not enough, the next."""


def plain(value: Any) -> str:
    """The value as compact JSON."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def bounded(data: Mapping[str, Any]) -> str:
    """An event's data as JSON that fits everywhere. What had to be cut says so: `cut` is the bytes that it had.

    :param data: of numbers that are none, nothing is left; of characters that are none, a question mark.
    """
    try:
        text = plain(data)
        size = len(text.encode())
    except ValueError:  # NaN, and UnicodeEncodeError for lone surrogates
        text = ""
        size = 0
    if not text or "\\u0000" in text:
        data = _cleaned(data)
        text = plain(data)
        size = len(text.encode())
    if size <= MAX_DATA:
        return text
    for cut in CUTS:
        text = plain({**_shortened(data, *cut), "cut": size})
        if len(text.encode()) <= MAX_DATA:
            return text
    return plain({"kind": str(data.get("kind", ""))[:64], "cut": size})


def _cleaned(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode().replace("\0", "\ufffd")
    if isinstance(value, Mapping):
        return {_cleaned(str(key)): _cleaned(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_cleaned(item) for item in value]
    return value


def _shortened(data: Mapping[str, Any], characters: int, elements: int) -> dict[str, Any]:
    """The data, cut; of a log that loses lines the first one says how many."""
    short: dict[str, Any] = _cut(data, characters, elements)
    lines = data.get("lines")
    if isinstance(lines, list | tuple) and len(lines) > elements:
        kept = short["lines"][1:]
        short["lines"] = [f"… {len(lines) - len(kept):,} lines are in the log itself only", *kept]
    return short


def _cut(value: Any, characters: int, elements: int) -> Any:
    """The same with the ends of its long texts, and the ends of its long lists: the newest lines of a log come last."""
    if isinstance(value, str):
        return value if len(value) <= characters else "…" + value[-characters:]
    if isinstance(value, Mapping):
        return {key[:200]: _cut(item, characters, elements) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_cut(item, characters, elements) for item in value[-elements:]]
    return value
