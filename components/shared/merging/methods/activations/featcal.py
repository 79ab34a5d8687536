"""FeatCal and RegMean++: each linear layer of a merged model, fitted to the parents' features while the model runs.

Sources: RegMean++ (Nguyen et al., arXiv 2508.03121) takes RegMean's Gram matrices from what goes into the layers of
the merged model, not of the parents, layer after layer. FeatCal (Gu et al., arXiv 2605.13030) also takes the parents'
own features as the target, so that a layer makes up for what the layers below it got wrong. For a layer with weights
W_i of parent i, inputs X_i in that parent and X̂_i in the merged model on the same examples, both are

    argmin_W  Σ w_i·‖X̂_i Wᵀ − Y_i‖² + ρ·‖W − Σ w_i W_i‖²,      Y_i = (α·X_i + (1 − α)·X̂_i) W_iᵀ

with α = 0 for RegMean++ and α = 1 for FeatCal. A bias is one more column of W, for an input that is always 1.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...inputs import Diverged
from ...method import WEIGHT, Parameter, merge_method
from ..averages.linear import linear

# ρ as a share of the mean diagonal of Σ Gᵢ: decides directions that the examples do not show, and hardly any other.
RIDGE = 1e-4


@merge_method(
    "featcal",
    pretty_name="FeatCal, down to RegMean++",
    paper="https://arxiv.org/abs/2605.13030",
    summary="linear layers fitted to the parents' features in a forward of the merged model; needs examples",
    parameters=(
        WEIGHT,
        Parameter(
            "alpha", 0.9, "the parents' features as the target (1), or the merged model's (0)",
            low=0.0, high=1.0, gene="alpha", start=1.0,
        ),
    ),
    kind="features",
    base="unused",
)  # fmt: skip
def fit(
    weights: Sequence[Tensor],
    inputs: Sequence[Tensor],
    own: Sequence[Tensor],
    shares: Sequence[float],
    alpha: float,
) -> Tensor:
    """The layer of the formula at the top.

    Products in float32, solved in float64 by Cholesky.

    :param weights: N of (out, in), W_i.
    :param inputs: N of (n_i, in), X̂_i; n_i may be 0.
    :param own: N of (n_i, in), X_i.
    :param shares: N numbers ≥ 0 that sum to 1, w_i.
    :param alpha: in [0, 1].
    :returns: float32 (out, in).
    :raises Diverged: the layer's inputs are not finite.
    """
    mean = linear(weights, shares).double()
    gram = torch.zeros(mean.shape[1], mean.shape[1], dtype=torch.float64, device=mean.device)
    target = torch.zeros_like(mean)
    for weight, merged_features, own_features, share in zip(weights, inputs, own, shares, strict=True):
        if share == 0:
            continue
        gram += (merged_features.T @ merged_features).double() * share
        features = torch.lerp(merged_features, own_features, alpha)
        target += weight.double() @ (features.T @ merged_features).double() * share
    ridge = RIDGE * gram.diagonal().mean()
    if ridge == 0:  # nothing goes into this layer: every matrix fits, and the mean is the natural one
        return mean.float()
    gram.diagonal().add_(ridge)
    target += ridge * mean
    factor, failed = torch.linalg.cholesky_ex(gram)
    if failed:
        raise Diverged("a layer's inputs in the merged model are not finite")
    return torch.cholesky_solve(target.T, factor).T.float().contiguous()
