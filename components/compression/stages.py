"""Compression in stages, as the project's documents have it: SeedLM, then VPTQ and Hyper-Compression on what is left.

Stage 1 is SeedLM on the ternary model of phase bitnet, stage 2 adds VPTQ and Hyper-Compression. Every codec works on what
the one before decodes to, and only the last one's code is stored. Three lossy codes of one tensor cost more than they save
(README.md); the recipe `best` chooses one code for each tensor in their place.
"""

from __future__ import annotations

from collections.abc import Sequence

from .codecs.codec import Code, chain_of

STAGES = (("seedlm 4",), ("vptq 2", "hyper 1600"))
"""The presets that each stage adds."""


def presets_until(stages: int) -> tuple[str, ...]:
    """The presets of the first `stages` stages, 1 or 2, in their order."""
    return tuple(preset for stage in STAGES[:stages] for preset in stage)


def after_each_preset(stages: int) -> list[Code]:
    """The code after one preset of these stages, after two, and so on."""
    presets = presets_until(stages)
    return [chain_of(presets[:count]) for count in range(1, len(presets) + 1)]


def worst_degradation(retained: Sequence[float]) -> float:
    """The most that one stage loses of what the stage before has left: what a gate of so many percent a stage looks at.

    :param retained: after each stage, of what the model knew before the first.
    """
    before = (1.0, *retained[:-1])
    return max(1 - after / max(left, 1e-9) for left, after in zip(before, retained, strict=True))
