"""Inner products of the models' tensors: all that a merge needs which stays in the plane the models span.

SLERP, the Karcher mean and model stock give Σ cᵢ·θᵢ with coefficients that depend on lengths and angles alone. So one
pass over the tensors finds the Gram matrix, a few numbers give the coefficients, and a second pass adds up: no copy of a
tensor is needed, however large it is.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from .inputs import WholeTensor


def gram(tensors: Sequence[Tensor]) -> np.ndarray:
    """⟨θᵢ, θⱼ⟩ of N tensors of one shape, as flat vectors.

    :param tensors: N of one shape and any type.
    :returns: (N, N) float64, each product added up in float64.
    """
    flat = [tensor.flatten().double() for tensor in tensors]
    products = np.empty((len(flat), len(flat)))
    for i, j in itertools.combinations_with_replacement(range(len(flat)), 2):
        products[i, j] = products[j, i] = float(torch.dot(flat[i], flat[j]))
    return products


def lengths(products: np.ndarray) -> np.ndarray:
    """‖θᵢ‖ from the Gram matrix (N, N): (N,)."""
    return np.sqrt(np.clip(products.diagonal(), 0, None))


def gram_of_parents(tensor: WholeTensor) -> np.ndarray:
    """The Gram matrix (N, N) of the parents, added up in the order of the pieces."""
    return np.asarray(np.sum(list(tensor.map(lambda inputs: gram(inputs.parents))), axis=0))


def gram_of_task_vectors(tensor: WholeTensor) -> np.ndarray:
    """The Gram matrix (N, N) of the task vectors, added up in the order of the pieces."""
    return np.asarray(np.sum(list(tensor.map(lambda inputs: gram(inputs.task_vectors()))), axis=0))
