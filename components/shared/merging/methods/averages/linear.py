"""Linear merging: the weighted mean of the parents; with equal weights the uniform model soup.

Source: Wortsman et al., Model soups, arXiv 2203.05482.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ...inputs import Dials, Method, Parts


def linear(tensors: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """Σ wᵢ·θᵢ, accumulated in float32 in one buffer.

    tensors: N tensors of one shape; weights: N numbers, used as they are. Returns float32 of that shape.
    """
    total = tensors[0].float() * weights[0]
    for tensor, weight in zip(tensors[1:], weights[1:], strict=True):
        total.add_(tensor.float(), alpha=weight)
    return total


def merge(parts: Parts, dials: Dials) -> Tensor:
    return linear(parts.parents, parts.weights)


METHOD = Method(
    name="linear",
    pretty_name="Linear (model soup)",
    reference="https://arxiv.org/abs/2203.05482",
    genes=frozenset({"weights"}),
    needs_base=False,
    needs_grams=False,
    merge=merge,
)
