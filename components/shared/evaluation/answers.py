"""Does a model answer an item? Exact match by one teacher-forced forward, and the answer's likelihood.

Greedy generation yields exactly the answer and then <eos> if and only if, with the answer given as input, the most
likely token at every answer position is the answer's and after the last one it is <eos>. One forward over right-padded
rows decides that for a whole batch, with no generation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from components.shared.runtime.errors import InputError
from components.shared.tasks.batches import IGNORED, Batch, encode, without_scratch
from components.shared.tasks.item import Item
from components.shared.training.side_by_side import pieces_of

AnswerFunction = Callable[[Sequence[Item]], list[str]]
"""An agent: one answer an item. It may think, call tools, ask experts."""


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; the mode of before is put back."""
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(training)


def batches(
    items: Sequence[Item], tokenizer: PreTrainedTokenizerBase, size: int
) -> Iterator[tuple[list[int], Batch]]:
    """Rows of like length together (less padding), each with the indices of its items in `items`."""
    order = sorted(
        range(len(items)), key=lambda i: len(items[i].system) + len(items[i].prompt) + len(items[i].scratch)
    )
    for start in range(0, len(order), size):
        indices = order[start : start + size]
        yield indices, encode([items[index] for index in indices], tokenizer)


def next_logits(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    """(B, T−1, V) logits of the next token, and (B, T−1) int64 of the tokens that did come next, or IGNORED.

    Without a cache of keys and values: nothing is continued, and a cache grows with the model's layers.
    """
    batch = batch.to(next(model.parameters()).device)
    logits = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False).logits
    return logits[:, :-1], batch.labels[:, 1:]


def correct(
    agent: nn.Module | AnswerFunction,
    tokenizer: PreTrainedTokenizerBase,
    items: Sequence[Item],
    *,
    batch: int = 64,
) -> np.ndarray:
    """(n,) bool: whether the agent's whole answer is the item's, in the order of `items`; scratch is never shown.

    :param batch: items in one forward.
    :raises InputError: an agent gave more or fewer answers than it was asked for.
    """
    items = [without_scratch(item) for item in items]
    if not isinstance(agent, nn.Module):
        answers = agent(items)
        if len(answers) != len(items):
            raise InputError(
                f"an agent gave {len(answers)} answers to {len(items)} items", where="evaluation.correct"
            )
        return np.array([text == item.answer for text, item in zip(answers, items, strict=True)], dtype=bool)
    right, model = np.zeros(len(items), dtype=bool), agent

    @torch.no_grad()
    def measure(piece: tuple[list[int], Batch]) -> None:
        logits, targets = next_logits(model, piece[1])
        right[piece[0]] = ((logits.argmax(-1) == targets) | (targets == IGNORED)).all(-1).cpu().numpy()

    with evaluating(model):
        pieces_of(model)(measure, list(batches(items, tokenizer, batch)))
    return right


def nll(
    model: nn.Module, tokenizer: PreTrainedTokenizerBase, items: Sequence[Item], *, batch: int = 64
) -> tuple[np.ndarray, np.ndarray]:
    """(n,) float64 summed negative log-likelihood in nats of each item's answer and <eos>, and (n,) its tokens.

    An item that shows its scratch has scratch and answer counted together; strip it (`without_scratch`) to leave it out.
    """
    total, tokens = np.zeros(len(items)), np.zeros(len(items), dtype=np.int64)

    @torch.no_grad()
    def measure(piece: tuple[list[int], Batch]) -> None:
        logits, targets = next_logits(model, piece[1])
        token_nll = F.cross_entropy(
            logits.float().transpose(1, 2), targets, ignore_index=IGNORED, reduction="none"
        )
        total[piece[0]] = token_nll.double().sum(-1).cpu().numpy()
        tokens[piece[0]] = (targets != IGNORED).sum(-1).cpu().numpy()

    with evaluating(model):
        pieces_of(model)(measure, list(batches(items, tokenizer, batch)))
    return total, tokens


def loss(
    model: nn.Module, tokenizer: PreTrainedTokenizerBase, items: Sequence[Item], *, batch: int = 64
) -> float:
    """Mean negative log-likelihood of the answers, in nats a token, <eos> counted."""
    total, tokens = nll(model, tokenizer, items, batch=batch)
    return float(total.sum() / tokens.sum())
