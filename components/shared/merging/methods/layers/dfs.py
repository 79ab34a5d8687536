"""DFS: merging in the data-flow space – which layers, of which parent, in which order a token passes through.

Source: Akiba et al., Evolutionary optimization of model merging recipes, arXiv 2403.13187, §3.2. All layers
of all parents are laid in a row, the row is repeated r times, and an indicator array of T = M·r entries says
which are passed. Where the path jumps (the next layer is not the one after it in the same parent) the hidden
state is scaled by a number, since the layer meets inputs of a distribution that it was not trained on. The
paper's scale is a matrix W_ij over pairs of layers; ours is one number for each slot that is jumped to (its
column).

The scales need no code in the model. A pre-norm layer adds f(norm(h)) to h, and RMSNorm (LayerNorm too) does
not see the length of h; so does the last norm. Scaling the state by s at a jump is therefore the same
function as dividing what every layer from there on writes into the residual stream by s – exact but for the
norm's epsilon – and this divides the output projections.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from .frankenmerge import Path


def path(indicator: Sequence[int], parents: int, layers: int) -> Path:
    """The layers that an indicator array of T = parents·layers·r entries (0 or 1) passes, as (parent,
    layer).
    """
    row = [(parent, layer) for parent in range(parents) for layer in range(layers)]
    if len(indicator) % len(row):
        raise ValueError(
            f"an indicator of {len(indicator)} entries is no multiple of {parents}·{layers} layers"
        )
    return tuple(place for place, on in zip(itertools.cycle(row), indicator, strict=False) if on)


def indicator(wanted: Path, parents: int, layers: int, repeats: int) -> tuple[int, ...]:
    """The indicator array whose path is the given one, each layer in the first slot where it fits.

    Raises ValueError where the path goes back more often than the row is repeated.
    """
    slots = [0] * (parents * layers * repeats)
    position = -1
    for parent, layer in wanted:
        place = parent * layers + layer
        turn, at = divmod(position, parents * layers) if position >= 0 else (0, -1)
        position = (turn if place > at else turn + 1) * parents * layers + place
        if position >= len(slots):
            raise ValueError(f"the path {list(wanted)} needs more than {repeats} repeats of the layers")
        slots[position] = 1
    return tuple(slots)


def is_jump(path: Path, position: int) -> bool:
    """Whether the step into this position of the path is not a parent's own step from one layer to the
    next.
    """
    if position == 0:
        return False
    (parent, layer), (before, last) = path[position], path[position - 1]
    return parent != before or layer != last + 1


def residual_divisors(path: Path, scales: Sequence[float]) -> list[float]:
    """For each position, the product of the scales of all jumps up to it.

    path: n places; scales: n numbers > 0, read only where there is a jump. What the layer at a position
    writes into the residual stream is divided by its number.
    """
    product, divisors = 1.0, []
    for position, scale in enumerate(scales):
        if is_jump(path, position):
            product *= scale
        divisors.append(product)
    return divisors
