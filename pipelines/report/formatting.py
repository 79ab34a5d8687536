"""Scores as a person reads them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def score(value: Mapping[str, Any] | None) -> str:
    """A score in percent with its interval: '61 (52–69)'."""
    return (
        f"{100 * value['score']:.0f} ({100 * value['low']:.0f}–{100 * value['high']:.0f})" if value else "–"
    )


def clear_of_chance(value: Mapping[str, Any]) -> bool:
    """Whether the whole interval lies above what guessing reaches."""
    return bool(value["low"] > value["chance"])
