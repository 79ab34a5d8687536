"""The eight phases by name, in the order in which they run, and where the compiled pipeline of all eight lies."""

from __future__ import annotations

import difflib
from pathlib import Path

from components.shared.runtime.errors import ConfigError

PHASES = ("cognate", "evomerge", "quietstar", "bitnet", "training", "baking", "adas", "compression")

PARENTS, WORKERS, ROUNDS = 3, 2, 2
"""In the committed pipeline: models that evomerge merges, its workers side by side, and its barriers."""

COMPILED = Path(__file__).with_name("agent_forge.yaml")
"""The pipeline as it is committed: all phases, PARENTS, WORKERS, ROUNDS, the cluster settings `default`."""


def between(first: str = PHASES[0], last: str = PHASES[-1]) -> tuple[str, ...]:
    """The phases from `first` to `last`, both included.

    :raises ConfigError: an unknown name, or `first` comes after `last`.
    """
    for name in (first, last):
        if name not in PHASES:
            near = difflib.get_close_matches(name, PHASES, 1)
            fix = f"did you mean {near[0]}? " if near else ""
            raise ConfigError(f"there is no phase {name!r}", fix=f"{fix}The phases are {', '.join(PHASES)}")
    start, end = PHASES.index(first), PHASES.index(last)
    if start > end:
        raise ConfigError(f"phase {first} comes after phase {last}", fix=f"the order is {' → '.join(PHASES)}")
    return PHASES[start : end + 1]
