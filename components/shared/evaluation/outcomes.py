"""Which items a score is made of, and what came of each: with these two texts scores can be paired later.

Two models' outcomes are compared item by item only where both were asked the same items, which their digests say.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from components.shared.tasks.item import Item
from components.shared.tasks.places import file_digest

DIGITS = 12
"""Hexadecimal digits of the digest of a list of items."""

PLACES = 4
"""Decimal places of a grade between right and wrong."""


def asked(items: Sequence[Item], examples: Sequence[Item] = ()) -> str:
    """A digest of everything that is asked, in its order, and of what counts as right.

    It is that of the items themselves: models that are asked in forms of their own (turns, text) are asked the same.

    :param examples: that are shown in front of them.
    """
    text = _text(items)
    graders = sorted({item.grader.rpartition(":")[0] for item in items if ".py:" in item.grader})
    if examples or graders:  # a user's function may judge otherwise tomorrow
        text += _text(examples) + "".join(file_digest(Path(grader)) for grader in graders)
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]


def _text(items: Sequence[Item]) -> str:
    return json.dumps([dataclasses.astuple(item) for item in items], separators=(",", ":"))


def pack(values: ArrayLike) -> str:
    """(n,) grades in [0, 1] as a text: a character an item, 1 or 0, where all are right or wrong; else numbers in a row."""
    grades = np.asarray(values, dtype=np.float64).ravel()
    if np.isin(grades, (0.0, 1.0)).all():
        return "".join("1" if grade else "0" for grade in grades)
    return " ".join(f"{grade:.{PLACES}f}".rstrip("0").rstrip(".") for grade in grades)


def unpack(text: str) -> np.ndarray:
    """(n,) float64: what `pack` was given, to `PLACES`.

    :raises ValueError: it is no such text.
    """
    if " " in text or "." in text:
        return np.array([float(grade) for grade in text.split()], dtype=np.float64)
    if set(text) - {"0", "1"}:
        raise ValueError(f"no outcomes of items: {text!r:.60}")
    return np.array([character == "1" for character in text], dtype=np.float64)
