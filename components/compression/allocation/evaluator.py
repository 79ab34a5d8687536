"""A model under evaluation: with decoded weights in the place of its own, on held-out items."""

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

from components.shared.evaluation.answers import answer_states, batches, evaluating, nll
from components.shared.models.gram import map_grams
from components.shared.models.remote_code.coded import Coded
from components.shared.models.remote_code.modeling_wrapped import ForgeWrapped
from components.shared.models.remote_code.ternary import BitLinear
from components.shared.models.remote_code.thoughts import think
from components.shared.runtime.tracking.progress import Progress
from components.shared.tasks.batches import IGNORED, Batch
from components.shared.tasks.item import Item
from components.shared.training.head import next_token_loss
from components.shared.training.side_by_side import pieces_of

from .text import Material, TextRows


def codable(model: PreTrainedModel, smallest: int) -> dict[str, nn.Module]:
    """The modules whose weight can be stored as a code, by path.

    Linear and embedding layers of `smallest` weights and more, and whatever is stored as a code already.

    Left as they are: layers of other kinds, even if they inherit from these, for they may compute something else; and in a
    wrapped model whatever shares its weight, but an embedding whose head has the same (ForgeWrapped.tie_to_code).
    """
    shared = sharing_a_weight(model) if isinstance(model, ForgeWrapped) else set()
    return {
        path: module
        for path, module in model.named_modules()
        if isinstance(module, Coded)
        or (
            type(module) in (nn.Linear, BitLinear, nn.Embedding)
            and module.weight.numel() >= smallest
            and path not in shared
        )
    }


def sharing_a_weight(model: ForgeWrapped) -> set[str]:
    """Paths of modules that share a weight, but for the input embedding that the head shares its own with."""
    paths = set()
    for pair in (model.all_tied_weights_keys or {}).items():
        head, embedding = (model.get_submodule(name.removesuffix(".weight")) for name in pair)
        plain = head is model.get_output_embeddings() and embedding is model.get_input_embeddings()
        paths |= {name.removesuffix(".weight") for name in (pair[:1] if plain else pair)}
    return paths


class ReferenceOutputs(NamedTuple):
    """What a model predicts for a batch of items."""

    batch: Batch
    plain: Tensor  # (answer tokens, V) log-probabilities
    positions: Tensor | None  # (B, S) the columns before S tokens of each answer, where the model can think
    thoughts: Tensor | None  # (B, S, L)
    mixed: Tensor | None  # (B, S, V) log-probabilities after these thoughts


class Evaluator:
    """The model, and how it is judged: answers to items, `batch` at a time."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, batch: int) -> None:
        self.model, self.tokenizer, self.batch = model, tokenizer, batch

    @property
    def dtype(self) -> torch.dtype:
        """In which the model computes, and in which it takes weights."""
        return self.model.dtype

    @contextmanager
    def with_weights(self, weights: Mapping[str, np.ndarray | Tensor]) -> Iterator[None]:
        """The modules at these paths have these weights inside the block, and their own again after it."""
        before: dict[str, Any] = {}
        try:
            for path, w in weights.items():
                module: Any = self.model.get_submodule(path)
                if isinstance(module, Coded):
                    before[path] = module.decoded
                    module.decoded = torch.as_tensor(w).to(module.code.device, module.like.dtype)
                else:
                    before[path] = module.weight.data
                    module.weight.data = torch.as_tensor(w).to(module.weight.device, module.weight.dtype)
            yield
        finally:
            for path, original in before.items():
                module = self.model.get_submodule(path)
                if isinstance(module, Coded):
                    module.decoded = original
                else:
                    module.weight.data = original

    def nll(self, items: Material) -> tuple[np.ndarray, np.ndarray]:
        """Negative log-likelihood in nats of each item's answer or each row of a text (n,), and its tokens (n,)."""
        if not isinstance(items, TextRows):
            return nll(self.model, self.tokenizer, items, batch=self.batch)
        total, tokens = np.zeros(len(items)), np.full(len(items), items.ids.shape[1] - 1, np.int64)
        with evaluating(self.model):
            for indices, batch in items.batches():
                batch = batch.to(next(self.model.parameters()).device)
                total[indices] = float(next_token_loss(self.model, batch)) * tokens[indices]
        return total, tokens

    def loss(self, items: Material) -> float:
        """Nats a token."""
        total, tokens = self.nll(items)
        return float(total.sum() / tokens.sum())

    def reference(self, items: Sequence[Item]) -> list[ReferenceOutputs]:
        """What the model as it is now predicts for items, for `kl_increase` to compare with."""
        rows = [batch for _, batch in batches(items, self.tokenizer, self.batch)]
        return pieces_of(self.model)(self.outputs, rows)

    def plain_reference(self, items: Sequence[Item], rows: int) -> list[ReferenceOutputs]:
        """The same without thoughts, for training: `rows` items at a time."""
        pieces = [batch for _, batch in batches(items, self.tokenizer, rows)]
        return pieces_of(self.model)(self.plain_outputs, pieces)

    @torch.no_grad()
    def outputs(self, batch: Batch) -> ReferenceOutputs:
        """What the model as it is now predicts for a batch: at once and, where it can think, after a thought."""
        with evaluating(self.model):
            plain = self.plain_outputs(batch)
            return self._with_thoughts(plain) if getattr(self.model.config, "thoughts", None) else plain

    @torch.no_grad()
    def plain_outputs(self, batch: Batch) -> ReferenceOutputs:
        """What the model as it is now predicts for a batch at once."""
        with evaluating(self.model):
            batch = batch.to(next(self.model.parameters()).device)
            states = answer_states(self.model, batch)
            predicted = states.head(states.hidden).log_softmax(-1)
            return ReferenceOutputs(batch, predicted, None, None, None)

    def hessians(self, items: Sequence[Item], folder: Path, progress: Progress) -> dict[str, Path]:
        """The second moments of every linear layer's inputs while the model answers items, at once and after a thought.

        :returns: path → numpy file, (in, in) float32.
        """
        progress.start("calibrate", -(-len(items) // self.batch))

        def rows() -> Iterator[dict[str, Tensor]]:
            for _, batch in batches(items, self.tokenizer, self.batch):
                yield batch._asdict()
                progress.step()

        return map_grams(self.model, rows(), folder, lambda **batch: self.outputs(Batch(**batch)))

    def _with_thoughts(self, plain: ReferenceOutputs) -> ReferenceOutputs:
        """The same, and what the model predicts at the answer's positions after a thought."""
        batch, is_answer = plain.batch, plain.batch.labels[:, 1:] != IGNORED
        slots = int(is_answer.sum(1).max())
        positions = is_answer.int().argmax(1, keepdim=True) + torch.arange(slots, device=is_answer.device)
        positions = positions.clamp(max=is_answer.shape[1] - 1)
        thought = think(self.model, batch.input_ids, batch.attention_mask, positions)
        return plain._replace(
            positions=positions, thoughts=thought.tokens, mixed=thought.logits.float().log_softmax(-1)
        )

    def kl_increase(self, reference: Sequence[ReferenceOutputs]) -> float:
        """The KL from the reference to what is predicted now, nats a token.

        Of answers at once and, where the model can think, of answers after the reference's thoughts. It is quadratic in
        small changes of weights.
        """

        @torch.no_grad()
        def measure(before: ReferenceOutputs) -> tuple[float, int]:
            states = answer_states(self.model, before.batch)
            plain = states.head(states.hidden).log_softmax(-1)
            total, tokens = divergence(before.plain, plain), len(plain)
            if before.positions is not None and before.mixed is not None:
                thought = think(
                    self.model,
                    before.batch.input_ids,
                    before.batch.attention_mask,
                    before.positions,
                    thoughts=before.thoughts,
                )
                total += divergence(before.mixed, thought.logits.float().log_softmax(-1))
                tokens += before.positions.numel()
            return total, tokens

        with evaluating(self.model):
            measured = pieces_of(self.model)(measure, reference)
        return max(sum(total for total, _ in measured) / max(sum(tokens for _, tokens in measured), 1), 0.0)

    def uniform_loss(self) -> float:
        """The loss of a model that knows nothing: ln of the vocabulary's size."""
        return math.log(self.model.config.get_text_config().vocab_size)


def divergence(reference: Tensor, other: Tensor) -> float:
    """Σ KL(reference ‖ other) over rows of log-probabilities (…, V), in nats."""
    return float((reference.exp() * (reference - other)).sum(dtype=torch.float64))


def retention(uniform: float, before: float, after: float) -> float:
    """(L_uniform − L_after) / (L_uniform − L_before): 1 keeps all that the model knew, 0 keeps nothing."""
    return (uniform - after) / (uniform - before)
