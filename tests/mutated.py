"""JSON as somebody else may write it: a document with a few values replaced, removed or added, the same ones for a seed."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from typing import Any

VALUES: tuple[Any, ...] = (
    None, [], {}, "", 0, -1, 1e400, float("nan"), True, "x" * 300, "\ud800", "\0", "/", "minio://", 10**400,
    [[]], [None], {"artifacts": None}, {"a": {"b": [1, {}]}},
)  # fmt: skip


def mutations(document: Any, seed: int, count: int) -> Iterator[str]:
    """So many texts of changed documents; of some a few bytes are changed, too, or the end is missing."""
    chance = random.Random(seed)
    for _ in range(count):
        changed = copy.deepcopy(document)
        for _ in range(chance.choice((1, 1, 2, 3))):
            places = list(_places(changed))
            holder, key = chance.choice(places) if places else ([changed], 0)
            if chance.random() < 0.75:
                holder[key] = copy.deepcopy(chance.choice(VALUES))
            else:
                del holder[key]
        text = json.dumps(changed)
        if chance.random() < 0.15:
            place = chance.randrange(len(text))
            text = text[:place] + chr(chance.randrange(256)) + text[place + 1 :]
        yield text[: chance.randrange(len(text))] if chance.random() < 0.03 else text


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every place in it: what holds it, and its key or index there."""
    for key, item in value.items() if isinstance(value, dict) else enumerate(value):
        yield value, key
        if isinstance(item, (dict, list)):
            yield from _places(item)
