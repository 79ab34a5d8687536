r"""What of a text is the answer: models explain themselves before and after it.

The keys of an item's reference that are read here:

    until      strings that end the text; what is behind the first of them was never said
    extract    "strict": what stands behind #### (GSM8K, arXiv 2110.14168) or in \boxed{} (MATH, arXiv 2103.03874)
               "flexible": that, else the last number of the text
               any other: a regular expression; its first group that took part, or all of it
    which      of several places that the expression finds: 0 the first (left out), −1 the last
    ignore     regular expressions whose matches are taken out of both sides before they are compared
    ignore_case
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

STRICT, FLEXIBLE = "strict", "flexible"
BEHIND_HASHES = re.compile(r"####\s*([^\n]+)")
BOXED = "\\boxed{"
NUMBER = re.compile(
    r"(?:(?<![\w)\]])[-−+])?(?:[$€£]-?)?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?(?:[eE][-+]?\d+)?|(?<![\w.])[-−+]?\.\d+"
)
"""A number as it is written in text: a sign (of `10-5` the minus is none), a currency, thousands parted by commas,
decimals, an exponent."""
FRACTION = re.compile(r"^\\[dt]?frac\{(-?[\d.]+)\}\{([\d.]+)\}$|^(-?[\d.]+)\s*/\s*([\d.]+)$")


def until(text: str, needs: Mapping[str, Any]) -> str:
    """The text up to the first of the strings that end it."""
    ends = [place for end in needs.get("until", ()) if (place := text.find(end)) >= 0]
    return text[: min(ends)] if ends else text


def extracted(text: str, needs: Mapping[str, Any]) -> str | None:
    """The answer within a text, cleared of what the comparison ignores; None where there is none."""
    how, text = needs.get("extract"), until(text, needs)
    if how == STRICT:
        found = marked(text)
    elif how == FLEXIBLE:
        found = marked(text) or last_number(text)
    else:
        found = matched(text, how, needs.get("which", 0)) if how else text
    if found is None:
        return None
    for pattern in needs.get("ignore", ()):
        found = re.sub(pattern, "", found)
    found = found.strip()
    return found.lower() if needs.get("ignore_case") else found


def matched(text: str, pattern: str, which: int) -> str | None:
    """What an expression finds: the first group that took part, or all of the match."""
    found = list(re.finditer(pattern, text))
    if not found:
        return None
    match = found[which]
    return next((group for group in match.groups() if group is not None), match.group())


def marked(text: str) -> str | None:
    r"""What stands in the last \boxed{}, else behind the last ####."""
    if (start := text.rfind(BOXED)) >= 0 and (inside := _braced(text[start + len(BOXED) :])) is not None:
        return inside
    behind = BEHIND_HASHES.findall(text)
    return behind[-1].strip() if behind else None


def _braced(text: str) -> str | None:
    """The text up to the brace that closes one which is open."""
    depth = 1
    for place, character in enumerate(text):
        depth += {"{": 1, "}": -1}.get(character, 0)
        if not depth:
            return text[:place]
    return None


def last_number(text: str) -> str | None:
    """The last number of a text, as it is written."""
    found = NUMBER.findall(text)
    return found[-1] if found else None


def value_of(text: str) -> float | None:
    """The number that a text is, or that it begins with; None where it is none.

    Commas between thousands, currencies, a percent sign, units and a closing full stop are no part of it; a fraction is
    divided.
    """
    text = text.strip().strip("$").rstrip(".").strip()
    if fraction := FRACTION.match(text):
        above, below = [part for part in fraction.groups() if part is not None]
        try:
            return float(above) / float(below)
        except (ValueError, ZeroDivisionError):
            return None
    match = NUMBER.search(text)
    if match is None:
        return None
    return float(re.sub(r"[,$€£+]", "", match.group()).replace("−", "-"))


def numbers_agree(answer: str, text: str, needs: Mapping[str, Any]) -> bool:
    """Whether the number of a text is the answer's, within a tolerance (`tolerance` absolute, `relative` to the answer)."""
    found = extracted(text, {"extract": FLEXIBLE, **needs})
    value, expected = value_of(found) if found is not None else None, number_of_answer(answer)
    if value is None or expected is None:
        return False
    return math.isclose(
        value, expected, rel_tol=needs.get("relative", 1e-9), abs_tol=needs.get("tolerance", 1e-9)
    )


def number_of_answer(answer: str) -> float | None:
    """The number of an item's own answer: the one that it marks, else the one that it ends in."""
    found = marked(answer)
    if found is None:
        found = answer if FRACTION.match(answer.strip()) else last_number(answer)
    return None if found is None else value_of(found)
