"""What a model says: sampled or greedy answers, as token ids, to prompts that are grouped so that none is padded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from components.shared.tasks.item import Item

ROWS = 64
"""Sequences in one forward pass."""


def prompt_ids(items: Sequence[Item], tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    """`<bos> system prompt` of each item."""
    start = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    texts = [item.system + item.prompt for item in items]
    return [start + ids for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]]


@torch.no_grad()
def sample_answers(
    model: PreTrainedModel,
    prompts: Sequence[list[int]],
    *,
    eos: int,
    limit: int,
    temperature: float,
    generator: torch.Generator | None = None,
) -> list[list[int]]:
    """Sample an answer to each prompt up to and with <eos>, or `limit` tokens; temperature 0 is greedy.

    Prompts of one length go together, so that nothing needs padding.

    :param eos: the id of <eos>.
    :param limit: tokens of an answer at most.
    :param generator: of the samples, on the CPU.
    :returns: token ids, an answer a prompt, in the order of the prompts.
    """
    answers: list[list[int]] = [[] for _ in prompts]
    for indices in _of_one_length(prompts):
        ids = torch.tensor([prompts[index] for index in indices], device=model.device)
        unfinished, cache = torch.ones(len(indices), dtype=torch.bool), None
        for _ in range(limit):
            out = model(input_ids=ids, past_key_values=cache, use_cache=True)
            logits, cache = out.logits[:, -1].float().cpu(), out.past_key_values
            if temperature:
                chosen = torch.multinomial((logits / temperature).softmax(-1), 1, generator=generator)[:, 0]
            else:
                chosen = logits.argmax(-1)
            for row in unfinished.nonzero()[:, 0].tolist():
                answers[indices[row]].append(int(chosen[row]))
            unfinished &= chosen != eos
            if not unfinished.any():
                break
            ids = chosen[:, None].to(model.device)
    return answers


def _of_one_length(prompts: Sequence[list[int]]) -> Iterator[list[int]]:
    lengths: dict[int, list[int]] = {}
    for index, prompt in enumerate(prompts):
        lengths.setdefault(len(prompt), []).append(index)
    for _, indices in sorted(lengths.items()):
        for start in range(0, len(indices), ROWS):
            yield indices[start : start + ROWS]
