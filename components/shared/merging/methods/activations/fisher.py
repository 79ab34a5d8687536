"""Fisher merging: the mean of the models, each entry weighed by how sure a model is of it.

Source: Matena and Raffel, Merging models with Fisher-weighted averaging, arXiv 2111.09832, eq. 2 and 3: with the posterior
of each model taken as a Gaussian around its weights whose precision is the diagonal Fisher information, the weights of
largest joint likelihood are Σ λᵢ·Fᵢ·θᵢ / Σ λᵢ·Fᵢ. The Fisher information is the mean over examples of the squared
gradient of the log-likelihood, example by example.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn


def fisher(
    tensors: Sequence[Tensor], informations: Sequence[Tensor], weights: Sequence[float], floor: float = 1e-6
) -> Tensor:
    """Σ wᵢ·(Fᵢ + floor)·θᵢ / Σ wᵢ·(Fᵢ + floor), added up in float64.

    :param tensors: N of one shape.
    :param informations: N of that shape, ≥ 0.
    :param weights: N numbers ≥ 0, not all 0.
    :param floor: the reference code's; makes a plain mean of entries that no model has information about.
    :returns: float32 of that shape.
    """
    total = torch.zeros(tensors[0].shape, dtype=torch.float64)
    certainty = torch.zeros_like(total)
    for tensor, information, weight in zip(tensors, informations, weights, strict=True):
        precision = weight * (information.double() + floor)
        total += precision * tensor.double()
        certainty += precision
    return (total / certainty).float()


def information(
    model: nn.Module, examples: Iterable[object], log_likelihood: Callable[[object], Tensor]
) -> dict[str, Tensor]:
    """The empirical diagonal Fisher information of every trainable parameter.

    :param model: it is not changed.
    :param examples: one at a time, for squares of a batch's mean gradient are not the mean of squares.
    :param log_likelihood: log p(y | x) of one example under the model, a scalar with a gradient.
    :returns: float32 tensors of the parameters' shapes, by name.
    :raises ValueError: there are no examples.
    """
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    total = {name: torch.zeros_like(p, dtype=torch.float32) for name, p in parameters.items()}
    count = 0
    for example in examples:
        gradients = torch.autograd.grad(log_likelihood(example), list(parameters.values()), allow_unused=True)
        for name, gradient in zip(parameters, gradients, strict=True):
            if gradient is not None:
                total[name] += gradient.float().square()
        count += 1
    if not count:
        raise ValueError("the Fisher information of no examples")
    return {name: tensor / count for name, tensor in total.items()}
