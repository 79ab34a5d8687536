"""A model's overall score, made of those of its suites where it is asked for: nothing of it is stored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from components.shared.evaluation.overall import overall

NEEDED = {"score", "low", "high", "chance"}


class Overall(BaseModel):
    """The mean over the suites, each corrected for guessing: 0 is guessing, 1 is all right; with its 95% interval.

    :param suites: how many.
    """

    score: float
    low: float
    high: float
    suites: int


def overall_of(scores: Mapping[str, Mapping[str, Any]]) -> Overall | None:
    """The overall score; None without suites, and where a manifest from elsewhere leaves out what it is made of."""
    if not all(score.keys() >= NEEDED for score in scores.values()):
        return None
    found = overall(scores)
    return None if found is None else Overall(**found._asdict())
