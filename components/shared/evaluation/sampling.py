"""What a model says: sampled or greedy answers, as token ids, to prompts that go through it in batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import PreTrainedModel

from components.shared.generation.batch import generate
from components.shared.generation.requests import Decoding, Request
from components.shared.training.side_by_side import pieces_of

ROWS = 64
"""Sequences in one forward pass."""
PIECE = 4 * ROWS
"""Prompts that one thread answers, where a small network's work goes side by side."""


def sample_answers(
    model: PreTrainedModel,
    prompts: Sequence[list[int]],
    *,
    stops: Sequence[int],
    limit: int,
    temperature: float,
    generator: torch.Generator | None = None,
) -> list[list[int]]:
    """Sample an answer to each prompt up to and with what ends it, or `limit` tokens; temperature 0 is greedy.

    :param stops: the tokens that end an answer.
    :param limit: tokens of an answer at most.
    :param generator: of the samples, on the CPU.
    :returns: token ids, an answer a prompt, in the order of the prompts.
    :raises InputError: the model keeps another state than keys and values.
    """
    seeds = (
        torch.randint(2**62, (len(prompts),), generator=generator).tolist()
        if temperature
        else [0] * len(prompts)
    )
    decoding, ends = Decoding(temperature), frozenset(stops)
    requests = [
        Request(prompt, limit, ends, decoding, seed) for prompt, seed in zip(prompts, seeds, strict=True)
    ]
    return write(model, requests)


def write(
    model: Any, requests: Sequence[Request], finished: Callable[[], None] | None = None
) -> list[list[int]]:
    """What a model writes to each request, those of like length together; a small network's pieces go side by side.

    :param finished: is told whenever one is written.
    :returns: token ids, in the order of the requests.
    :raises InputError: the model keeps another state than keys and values.
    """
    order = sorted(range(len(requests)), key=lambda index: len(requests[index].prompt))
    count = max(1, -(-len(order) // PIECE), min(2, -(-len(order) // ROWS)))
    pieces = [order[piece::count] for piece in range(count)]
    answers: list[list[int]] = [[] for _ in requests]

    def ended(_: int, __: list[int]) -> None:
        if finished is not None:
            finished()

    def answer(piece: list[int]) -> None:
        written = generate(model, [requests[index] for index in piece], slots=ROWS, finished=ended)
        for index, ids in zip(piece, written, strict=True):
            answers[index] = ids

    pieces_of(model)(answer, pieces)
    return answers
