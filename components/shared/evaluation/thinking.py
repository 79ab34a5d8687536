"""Answers of a model that thinks before every token (Quiet-STaR), as an agent that the suites can score.

evaluate(partial(answers_with_thoughts, model, tokenizer), tokenizer, …)
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from components.shared.models.remote_code.thoughts import generate_with_thoughts
from components.shared.tasks.item import Item
from components.shared.tasks.prompting import prompt_ids, stop_ids, text_of
from components.shared.training.side_by_side import pieces_of

from .answers import evaluating


def answers_with_thoughts(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    items: Sequence[Item],
    *,
    batch: int = 64,
    limit: int = 32,
    length: int | None = None,
) -> list[str]:
    """Greedy answers, batched and deterministic; thoughts are greedy too.

    :param model: one with a talk head.
    :param limit: tokens of an answer at most.
    :param length: tokens of a thought; left out: as the model was trained.
    :returns: one answer an item, in the order of the items.
    :raises ValueError: the model has no talk head.
    """
    device, stops = next(model.parameters()).device, stop_ids(tokenizer, model)
    order = sorted(range(len(items)), key=lambda index: len(items[index].system) + len(items[index].prompt))
    answers = [""] * len(items)

    def answer(indices: list[int]) -> None:
        rows = prompt_ids([items[index] for index in indices], tokenizer)
        width = max(map(len, rows))
        input_ids = torch.tensor([row + [0] * (width - len(row)) for row in rows], device=device)
        lengths = torch.tensor([len(row) for row in rows], device=device)
        mask = (torch.arange(width, device=device) < lengths[:, None]).long()
        generated = generate_with_thoughts(model, input_ids, mask, limit=limit, stops=stops, length=length)
        for index, ids in zip(indices, generated.tolist(), strict=True):
            answers[index] = text_of(ids, tokenizer, stops)

    with evaluating(model):
        pieces_of(model)(answer, [order[first : first + batch] for first in range(0, len(order), batch)])
    return answers
