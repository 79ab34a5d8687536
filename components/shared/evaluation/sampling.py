"""What a model says: sampled or greedy answers, as token ids, to prompts that go through it in batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from transformers import PreTrainedModel

from components.shared.training.side_by_side import pieces_of

ROWS = 64
"""Sequences in one forward pass."""


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

    Prompts of like length go together, padded on the left where the model takes that (`pads_by_mask`), else of one length.

    :param stops: the tokens that end an answer.
    :param limit: tokens of an answer at most.
    :param generator: of the samples, on the CPU.
    :returns: token ids, an answer a prompt, in the order of the prompts.
    """
    answers: list[list[int]] = [[] for _ in prompts]
    together = _of_like_length if getattr(model, "pads_by_mask", False) else _of_one_length
    batches = list(together(prompts))
    seeds = torch.randint(2**62, (len(batches),), generator=generator).tolist() if temperature else []

    def answer(number: int) -> None:
        own = torch.Generator().manual_seed(seeds[number]) if temperature else None
        rows = [prompts[index] for index in batches[number]]
        for index, ids in zip(
            batches[number], _continue(model, rows, stops, limit, temperature, own), strict=True
        ):
            answers[index] = ids

    pieces_of(model)(answer, range(len(batches)))
    return answers


@torch.no_grad()
def _continue(
    model: PreTrainedModel,
    prompts: Sequence[list[int]],
    stops: Sequence[int],
    limit: int,
    temperature: float,
    generator: torch.Generator | None,
) -> list[list[int]]:
    """The answers to one batch of prompts; as `sample_answers`."""
    width = max(map(len, prompts))
    padded = [[0] * (width - len(prompt)) + prompt for prompt in prompts]
    ids = torch.tensor(padded, device=model.device)
    lengths = torch.tensor([len(prompt) for prompt in prompts], device=model.device)
    mask = (torch.arange(width, device=model.device) >= width - lengths[:, None]).long()
    plain = bool(mask.all())
    answers: list[list[int]] = [[] for _ in prompts]
    ends = torch.tensor(list(stops), dtype=torch.long)
    unfinished, cache = torch.ones(len(prompts), dtype=torch.bool), None
    for _ in range(limit):
        out = model(
            input_ids=ids,
            past_key_values=cache,
            use_cache=True,
            **({} if plain else {"attention_mask": mask}),
        )
        logits, cache = out.logits[:, -1].float().cpu(), out.past_key_values
        if temperature:
            chosen = torch.multinomial((logits / temperature).softmax(-1), 1, generator=generator)[:, 0]
        else:
            chosen = logits.argmax(-1)
        for row, token in zip(unfinished.nonzero()[:, 0].tolist(), chosen[unfinished].tolist(), strict=True):
            answers[row].append(token)
        unfinished &= ~torch.isin(chosen, ends)
        if not unfinished.any():
            break
        ids = chosen[:, None].to(model.device)
        mask = F.pad(mask, (0, 1), value=1)
    return answers


def _of_like_length(prompts: Sequence[list[int]]) -> Iterator[list[int]]:
    """Indices of prompts in the order of their length, ROWS at a time."""
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
    for start in range(0, len(order), ROWS):
        yield order[start : start + ROWS]


def _of_one_length(prompts: Sequence[list[int]]) -> Iterator[list[int]]:
    lengths: dict[int, list[int]] = {}
    for index, prompt in enumerate(prompts):
        lengths.setdefault(len(prompt), []).append(index)
    for _, indices in sorted(lengths.items()):
        for start in range(0, len(indices), ROWS):
            yield indices[start : start + ROWS]
