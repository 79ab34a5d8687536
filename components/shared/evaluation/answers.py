"""Does a model answer an item? Exact match by one teacher-forced forward, and the answer's likelihood.

Greedy generation yields exactly the answer and then <eos> if and only if, with the answer given as input, the most
likely token at every answer position is the answer's and after the last one it is <eos>. One forward over right-padded
rows decides that for a whole batch, with no generation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from components.shared.runtime.errors import InputError
from components.shared.tasks.batches import IGNORED, Batch, encode, without_scratch
from components.shared.tasks.item import Item
from components.shared.training.head import Head, hidden_states, labelled, outcomes
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


class AnswerStates(NamedTuple):
    """What a model knows at the n places of a batch that predict a labelled token, row by row.

    hidden    (n, d) after the final norm
    head      what makes logits of them
    targets   (n,) int64, the tokens that did come next
    row       (n,) int64, the row of the batch that each belongs to
    """

    hidden: Tensor
    head: Head
    targets: Tensor
    row: Tensor


def answer_states(model: nn.Module, batch: Batch) -> AnswerStates:
    """Read a batch, up to the head: its logits are many, and few of them are looked at."""
    batch = batch.to(next(model.parameters()).device)
    hidden = hidden_states(model, batch.input_ids, batch.attention_mask)
    rows, targets = labelled(hidden.last, batch.labels)
    return AnswerStates(rows, hidden.head, targets, (batch.labels[:, 1:] != IGNORED).nonzero()[:, 0])


def token_outcomes(model: nn.Module, batch: Batch) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each row of a batch: −log p of its labelled tokens in nats, their number, whether all were the likeliest ones."""
    states = answer_states(model, batch)
    nll, right = outcomes(states.hidden, states.head, states.targets)
    row, count = states.row.cpu().numpy(), len(batch.labels)
    return (
        np.bincount(row, nll.double().cpu().numpy(), count),
        np.bincount(row, minlength=count),
        np.bincount(row, ~right.cpu().numpy(), count) == 0,
    )


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
        *_, right[piece[0]] = token_outcomes(model, piece[1])

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
        total[piece[0]], tokens[piece[0]], _ = token_outcomes(model, piece[1])

    with evaluating(model):
        pieces_of(model)(measure, list(batches(items, tokenizer, batch)))
    return total, tokens


def loss(
    model: nn.Module, tokenizer: PreTrainedTokenizerBase, items: Sequence[Item], *, batch: int = 64
) -> float:
    """Mean negative log-likelihood of the answers, in nats a token, <eos> counted."""
    total, tokens = nll(model, tokenizer, items, batch=batch)
    return float(total.sum() / tokens.sum())
