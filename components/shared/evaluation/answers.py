"""Does a model answer an item? Exact match by one teacher-forced forward, choices by likelihood, the rest by grading text.

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
from components.shared.tasks.graders import grade, how_scored
from components.shared.tasks.item import Item
from components.shared.tasks.room import Room, positions_of
from components.shared.training.head import Head, hidden_states, labelled, outcomes
from components.shared.training.side_by_side import pieces_of

from .choices import ChoiceScores, chosen, rows_of, without_end
from .writing import LIMIT, written_answers

CHARACTERS = 1 << 14
"""Of the questions that pass the network together, padding included: pages are fewer at a time than short sums."""

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
    """Rows of like length together (less padding), each with the indices of its items in `items`.

    :param size: rows together at most; of long ones as many as CHARACTERS has room for.
    """
    lengths = [len(item.system) + len(item.prompt) + len(item.scratch) for item in items]
    order = sorted(range(len(items)), key=lengths.__getitem__)
    while order:
        fits = (
            place
            for place in range(min(size, len(order)), 1, -1)
            if place * lengths[order[place - 1]] <= CHARACTERS
        )
        count = next(fits, 1)
        indices, order = order[:count], order[count:]
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
    # Padding is on the right, where causality hides it: a mask would be a matrix of T × T for every row.
    hidden = hidden_states(model, batch.input_ids)
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
    limit: int = LIMIT,
    seen: Callable[[int], None] | None = None,
) -> np.ndarray:
    """(n,) bool: whether the agent's whole answer is right, in the order of `items`; scratch is never shown.

    As `grades`; an answer that is right in part is wrong.
    """
    return grades(agent, tokenizer, items, batch=batch, limit=limit, seen=seen) >= 1


def grades(
    agent: nn.Module | AnswerFunction,
    tokenizer: PreTrainedTokenizerBase,
    items: Sequence[Item],
    *,
    batch: int = 64,
    limit: int = LIMIT,
    seen: Callable[[int], None] | None = None,
) -> np.ndarray:
    """(n,) float64 in [0, 1]: how right the agent's answers are, in the order of `items`; scratch is never shown.

    Of a model, an item that its positions do not hold is answered wrong, answers that are compared as they are need one
    teacher-forced forward, choices are scored by their likelihood, and everything else is generated and graded. What an
    agent says is graded as text.

    :param batch: items in one forward.
    :param limit: tokens of a generated answer at most, where an item has no limit of its own.
    :param seen: is told how many more items are answered, as long work goes on.
    :raises InputError: an agent gave more or fewer answers than it was asked for; or as `graders.grade` and
        `writing.written_answers`.
    """
    items = [without_scratch(item) for item in items]
    values = np.zeros(len(items))
    if not isinstance(agent, nn.Module):
        answers = agent(items)
        if len(answers) != len(items):
            raise InputError(
                f"an agent gave {len(answers)} answers to {len(items)} items", where="evaluation.correct"
            )
        values[:] = [grade(item, text) for item, text in zip(items, answers, strict=True)]
        return values
    kinds: dict[str, list[int]] = {}
    for index, fits in enumerate(within(agent, tokenizer, items)):
        if fits:
            kinds.setdefault(how_scored(items[index]), []).append(index)
        elif seen is not None:
            seen(1)
    for kind, places in kinds.items():
        asked = [items[place] for place in places]
        if kind == "forced":
            values[places] = _forced(agent, tokenizer, asked, batch, seen)
        elif kind == "choice":
            values[places] = choice_scores(agent, tokenizer, asked, batch=batch).as_items_say(asked)
        else:
            with evaluating(agent):
                texts = written_answers(agent, tokenizer, asked, limit=limit, seen=seen)
            values[places] = [grade(item, text) for item, text in zip(asked, texts, strict=True)]
    return values


def within(model: nn.Module, tokenizer: PreTrainedTokenizerBase, items: Sequence[Item]) -> list[bool]:
    """Whether a model's positions hold each item: with every answer that it reads, or with room for one that it writes."""
    room = Room(tokenizer, positions_of(model))
    holds = {
        "forced": room.holds,
        "choice": lambda item: all(map(room.holds, rows_of([item]))),
        "written": room.holds_question,
    }
    return [holds[how_scored(item)](item) for item in items]


def _forced(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    items: Sequence[Item],
    batch: int,
    seen: Callable[[int], None] | None,
) -> np.ndarray:
    """(n,) bool: whether greedy generation would yield exactly the answers."""
    right = np.zeros(len(items), dtype=bool)

    @torch.no_grad()
    def measure(piece: tuple[list[int], Batch]) -> None:
        *_, right[piece[0]] = token_outcomes(model, piece[1])
        if seen is not None:
            seen(len(piece[0]))

    with evaluating(model):
        pieces_of(model)(measure, list(batches(items, tokenizer, batch)))
    return right


def choice_scores(
    model: nn.Module, tokenizer: PreTrainedTokenizerBase, items: Sequence[Item], *, batch: int = 64
) -> ChoiceScores:
    """Score items with choices, whose answers are among them, by the likelihood of each choice behind the prompt.

    :param batch: choices in one forward.
    """
    rows = rows_of(items)
    logs = np.zeros(len(rows))

    @torch.no_grad()
    def measure(piece: tuple[list[int], Batch]) -> None:
        logs[piece[0]] = -token_outcomes(model, without_end(piece[1]))[0]

    with evaluating(model):
        pieces_of(model)(measure, list(batches(rows, tokenizer, batch)))
    return chosen(items, logs)


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
