"""Scores as a person reads them, and the templates that show them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2

from components.shared.evaluation.statistics import wilson
from components.shared.runtime.wording import count, duration, size

if TYPE_CHECKING:
    from components.shared.evaluation.paired import Difference


def score(value: Mapping[str, Any] | None) -> str:
    """A score in percent with its interval: '61 (52–69)'."""
    return (
        f"{100 * value['score']:.0f} ({100 * value['low']:.0f}–{100 * value['high']:.0f})" if value else "–"
    )


def share(rate: float, n: int) -> str:
    """A rate of n trials in percent with Wilson's interval, as `score` writes it."""
    low, high = wilson(rate, n)
    return score({"score": rate, "low": low, "high": high})


def scaled(number: float) -> str:
    """A number with a decimal prefix: 61,234,000 → '61.2 M'."""
    for prefix in ("", " k", " M", " G", " T"):
        if number < 1000 or prefix == " T":
            break
        number /= 1000
    return f"{number:.1f}{prefix}"


def beside(found: Mapping[str, Any]) -> str:
    """What is known beside a score: what a right answer of efficiency costs, safety's rates, pass@k.

    :param found: a score as JSON, with what was timed under `timing` where it is known.
    """
    detail, timing, n = found.get("detail", {}), found.get("timing", {}), found["n"]
    parts = []
    if "tokens_per_right" in detail:
        parts.append(f"a right answer takes {scaled(detail['tokens_per_right'])} tokens")
        parts.append(f"{scaled(detail['flops_per_right'])}FLOP".replace(" ", "\u00a0"))
        parts.append(f"{size(detail['bytes_per_right'])} of weights read")
    if "latency_seconds" in timing:
        parts.append(f"{1000 * timing['latency_seconds']:.1f} ms for an answer alone")
    if "refused" in detail:
        parts.append(f"refused {share(detail['refused'], n // 2)}, obeyed {share(detail['obeyed'], n // 2)}")
    for name in detail:
        if name.startswith("pass_at_") and f"{name}_low" in detail:
            ends = {end: detail[f"{name}_{end}"] for end in ("low", "high")}
            parts.append(f"pass@{name.removeprefix('pass_at_')} {score({'score': detail[name], **ends})}")
    return ", ".join(parts)


def clear_of_chance(value: Mapping[str, Any]) -> bool:
    """Whether the whole interval lies above what guessing reaches."""
    return bool(value["low"] > value["chance"])


def difference(value: Difference) -> str:
    """A difference in points with its interval: '+3 (-2 to +8)'."""
    return f"{100 * value.difference:+.0f} ({100 * value.low:+.0f} to {100 * value.high:+.0f})"


def environment() -> jinja2.Environment:
    """The templates of this folder, with the filters that they use."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "size": size,
        "duration": duration,
        "count": count,
        "score": score,
        "share": share,
        "scaled": scaled,
        "beside": beside,
        "difference": difference,
    }
    made.tests["clear"] = clear_of_chance
    return made
