"""Model Breadcrumbs: both ends of a task vector are dropped, the small entries and the outliers.

Source: Davari and Belilovsky, Model Breadcrumbs: scaling multi-task model merging with sparse masks, arXiv 2312.06795, §3:
layer by layer the entries are ranked by magnitude; the top γ share and the bottom β share are masked, the others are kept
as they are. What remains is merged by task arithmetic (`breadcrumbs`), or by TIES's election of signs (`breadcrumbs_ties`).
β is told by the density d that is kept: β = 1 − d − γ.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from torch import Tensor
from torch.nn.functional import hardshrink

from ...magnitude import nth_largest
from .ties import trim


def ranks(count: int, density: float, gamma: float) -> tuple[int, int]:
    """(first, last): of `count` entries ranked from the largest, 1-based, those that are kept.

    γ gives way where γ + d > 1, so that the density is what was asked for; density 1 keeps everything.
    Raises ValueError for a density outside (0, 1] or γ outside [0, 1).
    """
    if not 0 < density <= 1 or not 0 <= gamma < 1:
        raise ValueError(f"density must be in (0, 1] and gamma in [0, 1), got {density} and {gamma}")
    kept = max(1, math.floor(density * count))
    dropped = min(math.floor(gamma * count), count - kept)
    return dropped + 1, dropped + kept


def limits(task_vector: Callable[[], Iterable[Tensor]], density: float, gamma: float) -> tuple[float, float]:
    """(low, high): the least and the greatest magnitude that is kept.

    task_vector: yields its pieces, as often as it is called.
    """
    first, last = ranks(sum(piece.numel() for piece in task_vector()), density, gamma)
    return nth_largest(task_vector, last), nth_largest(task_vector, first)


def crumbs(task_vector: Tensor, low: float, high: float) -> Tensor:
    """Entries whose magnitude is not within [low, high] become 0. Any shape."""
    kept = trim(task_vector, low)
    return kept.sub_(hardshrink(kept, high))
