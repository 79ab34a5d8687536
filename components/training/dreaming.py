"""Stages 7–8: the model replays what it would say itself, beside real data, so that learning does not erase what it knew.

Pseudo-rehearsal (Robins 1995); for language models self-synthesised rehearsal (Huang et al., arXiv 2403.01244). Dreams are
sampled once, by the model as it was when the stage began: they keep its behaviour of then, right or wrong.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from components.shared.evaluation.sampling import sample_answers
from components.shared.tasks.batches import IGNORED, Batch
from components.shared.tasks.item import Item
from components.shared.tasks.prompting import prompt_ids, stop_ids

LONGEST = 24
"""Tokens of a dreamt answer at most."""


def dream(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    items: Sequence[Item],
    *,
    temperature: float,
    generator: torch.Generator,
) -> list[list[list[int]]]:
    """What the model says to each item's prompt.

    :param temperature: of the sampling.
    :returns: [prompt, answer] in token ids for each item, the answer up to and with <eos>, or LONGEST tokens.
    """
    prompts = prompt_ids(items, tokenizer)
    answers = sample_answers(
        model,
        prompts,
        stops=stop_ids(tokenizer, model),
        limit=LONGEST,
        temperature=temperature,
        generator=generator,
    )
    return [[prompt, answer] for prompt, answer in zip(prompts, answers, strict=True)]


def replay(dreams: Sequence[Sequence[list[int]]], padding: int) -> Batch:
    """Dreams as rows, right-padded; only their answers are learnt.

    :param dreams: [prompt, answer] in token ids.
    :param padding: id that fills rows up.
    """
    width = max(len(prompt) + len(answer) for prompt, answer in dreams)
    input_ids, labels, attention_mask = [], [], []
    for prompt, answer in dreams:
        empty = width - len(prompt) - len(answer)
        input_ids.append(prompt + answer + [padding] * empty)
        labels.append([IGNORED] * len(prompt) + answer + [IGNORED] * empty)
        attention_mask.append([1] * (width - empty) + [0] * empty)
    return Batch(torch.tensor(input_ids), torch.tensor(labels), torch.tensor(attention_mask))
