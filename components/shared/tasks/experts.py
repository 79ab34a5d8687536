"""Families of tasks for expert vectors (SVF): skills that a base model has in part.

Rescaling singular values strengthens a skill that is there and cannot add one that is absent, nor better one that is
perfect: whoever trains an expert takes the cells of its family on which the base succeeds between 20% and 70%.
"""

from __future__ import annotations

EXPERTS: dict[str, tuple[tuple[str, int], ...]] = {
    "arithmetic": (("chain", 1), ("chain", 2), ("chain", 3), ("count", 1), ("count", 2), ("max", 7)),
    "words": (("reverse", 3), ("sort", 3), ("next", 3), ("letter", 3), ("sort", 4), ("letter", 4)),
    "memory": (
        ("latest", 1),
        ("latest", 2),
        ("latest", 3),
        ("cloze", 1),
        ("cloze", 2),
        ("recall", 4),
        ("needle", 4),
    ),
    "safety": (("request", 3), ("request", 4), ("request", 5)),
}
