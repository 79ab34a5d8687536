"""The merge methods, one paper a file, by name.

Tensorwise methods are in METHODS; frankenmerge and dfs rearrange whole layers and leave the tensors as they
are.
"""

from __future__ import annotations

from .. import searched
from ..inputs import Dials, Method, Parts
from .activations import regmean
from .averages import linear, nuslerp, slerp
from .task_vectors import dare, task_arithmetic, ties

METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        linear.METHOD,
        slerp.METHOD,
        nuslerp.METHOD,
        task_arithmetic.METHOD,
        ties.METHOD,
        dare.LINEAR,
        dare.TIES,
        regmean.METHOD,
        searched.KARCHER,
        searched.MODEL_STOCK,
        searched.BREADCRUMBS,
        searched.DELLA,
        searched.SCE,
    )
}

# Layer paths: pretty name and paper; the weights of what is not a layer (embedding, last norm, head) are
# averaged.
PATHS: dict[str, tuple[str, str]] = {
    "frankenmerge": ("Frankenmerge (passthrough)", "https://arxiv.org/abs/2403.13257"),
    "dfs": ("Data-flow space", "https://arxiv.org/abs/2403.13187"),
}

# Fitted in a forward of the merged model (calibration.py); tensors that are not the weight of a linear layer are averaged.
CALIBRATED: dict[str, tuple[str, str]] = {
    "featcal": ("FeatCal, down to RegMean++", "https://arxiv.org/abs/2605.13030"),
}

GENES: dict[str, frozenset[str]] = {
    **{name: method.genes for name, method in METHODS.items()},
    "featcal": frozenset({"weights", "alpha"}),
    "frankenmerge": frozenset({"weights", "path"}),
    "dfs": frozenset({"weights", "path", "hops"}),
}

__all__ = ["CALIBRATED", "GENES", "METHODS", "PATHS", "Dials", "Method", "Parts"]
