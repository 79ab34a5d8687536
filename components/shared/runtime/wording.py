"""Numbers, times and names as a person reads them. humanize says "4 minutes and 32 seconds"; a table has no room for it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


def size(bytes: float) -> str:
    """Bytes in decimal units: 1,234 → '1.2 kB'."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(bytes) < 1000:
            return f"{bytes:.0f} {unit}" if unit == "B" else f"{bytes:.1f} {unit}"
        bytes /= 1000
    return f"{bytes:.1f} TB"


def duration(seconds: float) -> str:
    """Seconds as '48 s', '4 min 32 s' or '3 h 05 min'."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def count(number: float) -> str:
    """Parameters of a model: 651,264 → '651k', 25.08e6 → '25.08M'."""
    if number >= 1e9:
        return f"{number / 1e9:.2f}B"
    if number >= 1e6:
        return f"{number / 1e6:.2f}M"
    return f"{number / 1e3:.0f}k" if number >= 1e3 else f"{number:.0f}"


def close_matches(name: str, known: Iterable[str]) -> list[str]:
    """The names that look like `name`, best first; a dotted name also matches by its last part."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    return close + [other for other in known if other not in close and other.rsplit(".", 1)[-1] == name]


def did_you_mean(name: str, known: Sequence[str], *, none: str = "nothing") -> str:
    """What to write in place of an unknown name: those that look like it, or else all there are.

    :param none: what is said to be known where `known` is empty.
    """
    close = close_matches(name, known)
    return f"did you mean {' or '.join(close)}?" if close else f"allowed: {', '.join(known) or none}"
