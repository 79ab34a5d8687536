"""The eight phases by name, in the order in which they run."""

from __future__ import annotations

import difflib

from components.shared.runtime.errors import ConfigError

PHASES = ("cognate", "evomerge", "quietstar", "bitnet", "training", "baking", "adas", "compression")

GPU_PHASES = frozenset({"cognate", "evomerge", "training"})
"""Those whose pods ask for an accelerator."""


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
