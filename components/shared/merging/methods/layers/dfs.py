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

from ...method import WEIGHT, merge_method
from .frankenmerge import LayerPath


def path(indicator: Sequence[int], parents: int, layers: int) -> LayerPath:
    """The layers that an indicator array passes, as (parent, layer).

    :param indicator: T = parents·layers·r entries, 0 or 1.
    :raises ValueError: T is no multiple of parents·layers.
    """
    row = [(parent, layer) for parent in range(parents) for layer in range(layers)]
    if len(indicator) % len(row):
        raise ValueError(
            f"an indicator of {len(indicator)} entries is no multiple of {parents}·{layers} layers"
        )
    return tuple(layer for layer, on in zip(itertools.cycle(row), indicator, strict=False) if on)


def indicator(target: LayerPath, parents: int, layers: int, repeats: int) -> tuple[int, ...]:
    """The indicator array whose path is the given one, each layer in the first slot where it fits.

    :raises ValueError: the path goes back more often than the row is repeated.
    """
    slots = [0] * (parents * layers * repeats)
    position = -1
    for parent, layer in target:
        column = parent * layers + layer
        turn, last = divmod(position, parents * layers) if position >= 0 else (0, -1)
        position = (turn if column > last else turn + 1) * parents * layers + column
        if position >= len(slots):
            raise ValueError(f"the path {list(target)} needs more than {repeats} repeats of the layers")
        slots[position] = 1
    return tuple(slots)


def is_jump(path: LayerPath, position: int) -> bool:
    """Whether the step into this position of the path is not a parent's own step from one layer to the next."""
    if position == 0:
        return False
    (parent, layer), (before, last) = path[position], path[position - 1]
    return parent != before or layer != last + 1


@merge_method(
    "dfs",
    pretty_name="Data-flow space",
    paper="https://arxiv.org/abs/2403.13187",
    summary="which layers of which model, in which order, with a scale at every jump",
    parameters=(WEIGHT,),  # of what is no layer
    kind="layers",
    base="unused",
    extra_genes=("path", "hops"),
)
def residual_divisors(path: LayerPath, scales: Sequence[float]) -> list[float]:
    """For each position, the product of the scales of all jumps up to it.

    What the layer at a position writes into the residual stream is divided by its number.

    :param path: n layers.
    :param scales: n numbers > 0, read only where there is a jump.
    :returns: n numbers.
    """
    product, divisors = 1.0, []
    for position, scale in enumerate(scales):
        if is_jump(path, position):
            product *= scale
        divisors.append(product)
    return divisors
