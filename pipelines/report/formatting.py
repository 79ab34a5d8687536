"""Numbers as a person reads them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def size(count: float) -> str:
    """Bytes in decimal units: 1,234 B → '1.2 kB'."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count) < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def duration(seconds: float) -> str:
    """Seconds as '48 s', '4 min 32 s' or '3 h 05 min'."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.0f} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def count(number: float) -> str:
    """Parameters: 651,264 → '651k', 25.08e6 → '25.08M'."""
    if number >= 1e9:
        return f"{number / 1e9:.2f}B"
    if number >= 1e6:
        return f"{number / 1e6:.2f}M"
    return f"{number / 1e3:.0f}k" if number >= 1e3 else f"{number:.0f}"


def score(value: Mapping[str, Any] | None) -> str:
    """A score in percent with its interval: '61 (52–69)'."""
    return (
        f"{100 * value['score']:.0f} ({100 * value['low']:.0f}–{100 * value['high']:.0f})" if value else "–"
    )


def clear_of_chance(value: Mapping[str, Any]) -> bool:
    """Whether the whole interval lies above what guessing reaches."""
    return bool(value["low"] > value["chance"])
