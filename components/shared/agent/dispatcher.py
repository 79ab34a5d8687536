"""Which class of questions is this? Multinomial logistic regression on a bag of bytes: cheap, and no model needed.

It does not change when the model does (merged, compressed), and it costs less than one token.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

FEATURES = 256


def bag_of_bytes(texts: Sequence[str]) -> Tensor:
    """(n, 256) float32: the counts of a text's bytes, as square roots, at length 1 (Hellinger)."""
    counts = torch.stack(
        [torch.bincount(torch.tensor(list(t.encode()), dtype=torch.long), minlength=FEATURES) for t in texts]
    )
    return F.normalize(counts.float().sqrt(), dim=-1)


class Dispatcher:
    """Classes and their weights.

    :param weight: (classes, 256) float16.
    :param bias: (classes,) float16.
    :raises ValueError: the shapes are not those.
    """

    def __init__(self, classes: Sequence[str], weight: Tensor, bias: Tensor) -> None:
        if weight.shape != (len(classes), FEATURES) or bias.shape != (len(classes),):
            raise ValueError(
                f"{len(classes)} classes take a weight ({len(classes)}, {FEATURES}), not {tuple(weight.shape)}"
            )
        self.classes, self.weight, self.bias = tuple(classes), weight.half(), bias.half()

    def probabilities(self, texts: Sequence[str]) -> Tensor:
        """(n, classes) float32."""
        return F.linear(bag_of_bytes(texts), self.weight.float(), self.bias.float()).softmax(-1)

    def dispatch(self, texts: Sequence[str]) -> list[tuple[str, float]]:
        """The likeliest class of each text and its probability."""
        if not texts:
            return []
        confidence, best = self.probabilities(texts).max(-1)
        return [
            (self.classes[index], probability)
            for index, probability in zip(best.tolist(), confidence.tolist(), strict=True)
        ]


def fit(
    texts: Sequence[str], labels: Sequence[str], *, decay: float = 1e-4, iterations: int = 200
) -> Dispatcher:
    """Fit a dispatcher: least cross-entropy plus decay·‖W‖², by L-BFGS from zero: convex, so there is nothing to seed.

    :param labels: the class of each text; classes stand in alphabetical order.
    """
    classes = sorted(set(labels))
    features = bag_of_bytes(texts).double()
    targets = torch.tensor([classes.index(label) for label in labels])
    weight = torch.zeros(len(classes), FEATURES, dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(len(classes), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=iterations, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = F.cross_entropy(F.linear(features, weight, bias), targets) + decay * weight.square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    return Dispatcher(classes, weight.detach(), bias.detach())
