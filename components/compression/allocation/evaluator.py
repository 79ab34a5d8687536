"""A model on trial: it wears decoded weights for a while and is judged on held-out items."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from components.shared.evaluation.answers import batches, evaluating, next_logits, nll
from components.shared.models.gram import map_grams
from components.shared.models.remote_code.coded import Coded
from components.shared.models.remote_code.modeling_wrapped import ForgeWrapped
from components.shared.models.remote_code.ternary import BitLinear
from components.shared.models.remote_code.thoughts import think
from components.shared.runtime.tracking.progress import Progress
from components.shared.tasks.batches import IGNORED, Batch
from components.shared.tasks.item import Item


def codable(model: PreTrainedModel, smallest: int) -> dict[str, nn.Module]:
    """The modules whose weight can be stored as a code, by path: linear and embedding layers of `smallest` weights and
    more, and whatever is stored as a code already.

    Left as they are: layers of other kinds, even if they inherit from these, for they may compute something else; and in a
    wrapped model whatever shares its weight, but an embedding whose head has the same (ForgeWrapped.tie_to_code).
    """
    left = tied(model) if isinstance(model, ForgeWrapped) else set()
    return {
        path: module
        for path, module in model.named_modules()
        if isinstance(module, Coded)
        or (
            type(module) in (nn.Linear, BitLinear, nn.Embedding)
            and module.weight.numel() >= smallest
            and path not in left
        )
    }


def tied(model: ForgeWrapped) -> set[str]:
    """Paths of modules that share a weight, but for the input embedding that the head shares its own with."""
    found = set()
    for pair in (model.all_tied_weights_keys or {}).items():
        head, embedding = (model.get_submodule(name.removesuffix(".weight")) for name in pair)
        plain = head is model.get_output_embeddings() and embedding is model.get_input_embeddings()
        found |= {name.removesuffix(".weight") for name in (pair[:1] if plain else pair)}
    return found


def weight_of(module: nn.Module) -> np.ndarray:
    """The weight of a codable module, (out, in) float32."""
    weight = module.weight
    assert isinstance(weight, Tensor)
    return weight.detach().float().cpu().numpy()


class Said(NamedTuple):
    """What a model said to a batch of items."""

    rows: Batch
    plain: Tensor  # (answer tokens, V) log-probabilities
    positions: Tensor | None  # (B, S) the columns before S tokens of each answer, where the model can think
    thoughts: Tensor | None  # (B, S, L)
    mixed: Tensor | None  # (B, S, V) log-probabilities after these thoughts


class Trial:
    """The model, and how it is judged: answers to items, `batch` at a time."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, batch: int) -> None:
        self.model, self.tokenizer, self.batch = model, tokenizer, batch

    @property
    def dtype(self) -> torch.dtype:
        """In which the model computes, and weights are worn."""
        return self.model.dtype

    @contextmanager
    def wearing(self, weights: Mapping[str, np.ndarray | Tensor]) -> Iterator[None]:
        """The modules at these paths have these weights inside the block, and their own again after it."""
        before: dict[str, Any] = {}
        try:
            for path, w in weights.items():
                module: Any = self.model.get_submodule(path)
                if isinstance(module, Coded):
                    before[path] = module.decoded
                    module.decoded = torch.as_tensor(w).to(module.code.device, torch.float32)
                else:
                    before[path] = module.weight.data
                    module.weight.data = torch.as_tensor(w).to(module.weight.device, module.weight.dtype)
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

    def reference(self, items: Sequence[Item]) -> list[Said]:
        """What the model as it is now says to items, for `harm` to compare with."""
        return [self.say(rows) for _, rows in batches(items, self.tokenizer, self.batch)]

    def say(self, rows: Batch) -> Said:
        """What the model as it is now says to a batch: at once and, where it can think, after a thought."""
        with evaluating(self.model):
            rows = rows.to(next(self.model.parameters()).device)
            logits, targets = next_logits(self.model, rows)
            said = Said(rows, logits[targets != IGNORED].float().log_softmax(-1), None, None, None)
            return self._with_thoughts(said) if getattr(self.model.config, "thoughts", None) else said

    def hessians(self, items: Sequence[Item], folder: Path, progress: Progress) -> dict[str, Path]:
        """The second moments of every linear layer's inputs while the model answers items, at once and after a thought, by
        path: files of numpy's, (in, in) float32."""
        progress.start("calibrate", -(-len(items) // self.batch))

        def rows() -> Iterator[dict[str, Tensor]]:
            for _, batch in batches(items, self.tokenizer, self.batch):
                yield batch._asdict()
                progress.step()

        return map_grams(self.model, rows(), folder, lambda **batch: self.say(Batch(**batch)))

    def _with_thoughts(self, said: Said) -> Said:
        """The same, and what the model predicts at the answer's places after a thought."""
        learnt = said.rows.labels[:, 1:] != IGNORED
        slots = int(learnt.sum(1).max())
        positions = learnt.int().argmax(1, keepdim=True) + torch.arange(slots, device=learnt.device)
        positions = positions.clamp(max=learnt.shape[1] - 1)
        thought = think(self.model, said.rows.input_ids, said.rows.attention_mask, positions)
        return said._replace(
            positions=positions, thoughts=thought.tokens, mixed=thought.logits.float().log_softmax(-1)
        )

    def harm(self, reference: Sequence[Said]) -> float:
        """KL from what was said to what is said now, nats a token, of answers at once and, where the model can think,
        of answers after the thoughts of then: quadratic in small changes of weights."""
        found, tokens = 0.0, 0
        with evaluating(self.model):
            for said in reference:
                logits, targets = next_logits(self.model, said.rows)
                plain = logits[targets != IGNORED].float().log_softmax(-1)
                found += divergence(said.plain, plain)
                tokens += len(plain)
                if said.positions is not None and said.mixed is not None:
                    rows = said.rows
                    thought = think(
                        self.model,
                        rows.input_ids,
                        rows.attention_mask,
                        said.positions,
                        thoughts=said.thoughts,
                    )
                    found += divergence(said.mixed, thought.logits.float().log_softmax(-1))
                    tokens += said.positions.numel()
        return max(found / max(tokens, 1), 0.0)

    def uniform_loss(self) -> float:
        """The loss of a model that knows nothing: ln of the vocabulary's size."""
        return math.log(self.model.config.get_text_config().vocab_size)


def divergence(reference: Tensor, other: Tensor) -> float:
    """Σ KL(reference ‖ other) over rows of log-probabilities (…, V), in nats."""
    return float((reference.exp() * (reference - other)).sum(dtype=torch.float64))


def retention(uniform: float, before: float, after: float) -> float:
    """(L_uniform − L_after) / (L_uniform − L_before): 1 keeps all that the model knew, 0 keeps nothing."""
    return (uniform - after) / (uniform - before)
