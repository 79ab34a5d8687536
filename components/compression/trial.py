"""A model on trial: it wears decoded weights for a while and is judged on held-out items."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from components.shared.evaluation.answers import batches, evaluating, next_logits, nll
from components.shared.models.hub.coded import Coded
from components.shared.models.hub.modeling_wrapped import ForgeWrapped
from components.shared.tasks.batches import IGNORED
from components.shared.tasks.item import Item


def codable(model: PreTrainedModel, smallest: int) -> dict[str, nn.Module]:
    """The modules whose weight can be stored as a code, by path: linear and embedding layers of `smallest` weights and
    more, and whatever is stored as a code already.

    Left as they are: in a wrapped model, an embedding that shares its weight with the head, for a coded layer stands
    for one module.
    """
    tied: set[str] = set()
    if isinstance(model, ForgeWrapped):
        pairs = getattr(model, "all_tied_weights_keys", None) or {}
        tied = {name.removesuffix(".weight") for pair in pairs.items() for name in pair}
    return {
        path: module
        for path, module in model.named_modules()
        if isinstance(module, Coded)
        or (
            isinstance(module, (nn.Linear, nn.Embedding))
            and module.weight.numel() >= smallest
            and path not in tied
        )
    }


def weight_of(module: nn.Module) -> np.ndarray:
    """The weight of a codable module, (out, in) float32."""
    weight = module.weight
    assert isinstance(weight, Tensor)
    return weight.detach().float().cpu().numpy()


class Trial:
    """The model, and how it is judged: answers to items, `batch` at a time."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, batch: int) -> None:
        self.model, self.tokenizer, self.batch = model, tokenizer, batch

    @contextmanager
    def wearing(self, weights: Mapping[str, np.ndarray]) -> Iterator[None]:
        """The modules at these paths have these weights inside the block, and their own again after it."""
        before: dict[str, Any] = {}
        try:
            for path, w in weights.items():
                module: Any = self.model.get_submodule(path)
                if isinstance(module, Coded):
                    before[path] = module.decoded
                    module.decoded = torch.from_numpy(w).to(module.code.device)
                else:
                    before[path] = module.weight.data
                    module.weight.data = torch.from_numpy(w).to(module.weight.device, module.weight.dtype)
            yield
        finally:
            for path, own in before.items():
                module = self.model.get_submodule(path)
                if isinstance(module, Coded):
                    module.decoded = own
                else:
                    module.weight.data = own

    def nll(self, items: Sequence[Item]) -> tuple[np.ndarray, np.ndarray]:
        """Negative log-likelihood of each item's answer in nats (n,), and its tokens (n,)."""
        return nll(self.model, self.tokenizer, items, batch=self.batch)

    def loss(self, items: Sequence[Item]) -> float:
        """Nats a token."""
        total, tokens = self.nll(items)
        return float(total.sum() / tokens.sum())

    def log_probabilities(self, items: Sequence[Item]) -> Tensor:
        """(answer tokens, vocabulary) float32, the same order for the same items."""
        found = []
        with evaluating(self.model):
            for _, rows in batches(items, self.tokenizer, self.batch):
                logits, targets = next_logits(self.model, rows)
                found.append(logits[targets != IGNORED].float().log_softmax(-1))
        return torch.cat(found)

    def uniform_loss(self) -> float:
        """The loss of a model that knows nothing: ln of the vocabulary's size."""
        return math.log(self.model.config.get_text_config().vocab_size)


def divergence(reference: Tensor, other: Tensor) -> float:
    """Mean KL(reference ‖ other) of log-probabilities (n, V): nats a token, quadratic in small changes of weights."""
    return max(float((reference.exp() * (reference - other)).sum(-1).double().mean()), 0.0)


def retention(uniform: float, before: float, after: float) -> float:
    """(L_uniform − L_after) / (L_uniform − L_before): 1 keeps all that the model knew, 0 keeps nothing."""
    return (uniform - after) / (uniform - before)
