"""Model stock: how far to go from the base to the mean of the models, read from the angle between them.

Source: Jang et al., Model stock: all we need is just a few fine-tuned models, arXiv 2403.19522, eq. 2 and 4: fine-tuned
weights lie at equal distances and angles θ around their centre, and the point nearest to the centre on the line from the
base w₀ to the mean w̄ of k models is t·w̄ + (1 − t)·w₀ with t = k·cos θ / (1 + (k − 1)·cos θ), tensor by tensor. With more
than two models cos θ is the mean over pairs. There are no weights: the models count equally.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from torch import Tensor

from ...gram import gram, gram_of_task_vectors, lengths
from ...inputs import MergeInputs, MergeParameters, WholeTensor
from ...method import LAMBDA, merge_method
from .linear import linear

NO_CENTRE = 1e-6  # 1 + (k − 1)·cos θ below this is 0, but for rounding


def ratio(products: np.ndarray) -> float:
    """The way t from the base to the mean, at most 1.

    Where the task vectors point away from each other t is negative, as the formula has it: the merge steps back behind
    the base. Where 1 + (k − 1)·cos θ is 0, the formula has no value, and t is 0. A task vector of length 0 has the
    cosine 0 with every other.

    :param products: Gram matrix (k, k) of the task vectors, k ≥ 2, float64.
    :raises ValueError: there are fewer than two.
    """
    count = len(products)
    if count < 2:
        raise ValueError("model stock takes two or more models: the angle between them is all it knows")
    norms = lengths(products)
    norms = np.where(norms > 0, norms, 1)
    cosines = np.clip(products / np.outer(norms, norms), -1, 1)
    cosine = float(np.mean([cosines[i, j] for i, j in itertools.combinations(range(count), 2)]))
    divisor = 1 + (count - 1) * cosine
    return count * cosine / divisor if abs(divisor) > NO_CENTRE else 0.0


def model_stock(base: Tensor, tensors: Sequence[Tensor]) -> Tensor:
    """t·mean + (1 − t)·base of k tensors of one shape. Returns float32."""
    base = base.float()
    tasks = [tensor.float() - base for tensor in tensors]
    t = ratio(gram(tasks))
    return base + linear(tasks, [t / len(tasks)] * len(tasks))


def survey(tensor: WholeTensor, parameters: MergeParameters) -> float:
    """The way to the mean."""
    return ratio(gram_of_task_vectors(tensor))


@merge_method(
    "model_stock",
    pretty_name="Model stock",
    paper="https://arxiv.org/abs/2403.19522",
    summary="how far to go from the base follows from the angle between the models; nothing to choose",
    parameters=(LAMBDA.but(mergekit=""),),
    survey=survey,
    fewest=2,
)
def merge(inputs: MergeInputs, parameters: MergeParameters, t: float) -> Tensor:
    """The base, and t of the mean task vector."""
    tasks = inputs.task_vectors()
    step = linear(tasks, [t / len(tasks)] * len(tasks))
    return step.mul_(parameters["lambda"]).add_(inputs.required_base)
