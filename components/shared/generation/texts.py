"""Texts gone on with as a model's own settings say: side by side in slots, or by the model's own `generate`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from .batch import generate
from .cache import why_not
from .requests import Request
from .settings import decoding_of, unknown_settings


def continue_texts(
    model: Any,
    prompts: Sequence[Sequence[int]],
    limits: Sequence[int],
    *,
    stops: Sequence[int],
    sample: bool,
    seed: int,
    padding: int,
) -> list[list[int]]:
    """What a model writes after each prompt, up to and with the token that ends it.

    A model whose state is not keys and values, or whose generation settings say more than slots know (beams, forbidden
    words, …), goes through transformers' `generate`, one text after another.

    :param prompts: token ids.
    :param limits: tokens of each text at most.
    :param stops: the tokens that end a text.
    :param sample: draw as the settings say; else the likeliest token is taken.
    :param seed: of the draws.
    :param padding: an id that fills rows up.
    :returns: token ids, in the order of the prompts.
    """
    if not why_not(model) and not unknown_settings(model):
        decoding, ends = decoding_of(model, sample=sample), frozenset(stops)
        return generate(
            model,
            [
                Request(prompt, limit, ends, decoding, seed + number)
                for number, (prompt, limit) in enumerate(zip(prompts, limits, strict=True))
            ],
        )
    return [
        alone(model, prompt, limit, stops=stops, sample=sample, seed=seed, padding=padding)
        for prompt, limit in zip(prompts, limits, strict=True)
    ]


def alone(
    model: Any,
    prompt: Sequence[int],
    limit: int,
    *,
    stops: Sequence[int],
    sample: bool,
    seed: int,
    padding: int,
) -> list[int]:
    """What transformers' `generate` writes after one prompt; as `continue_texts`."""
    torch.manual_seed(seed)
    start = torch.tensor([list(prompt)], device=model.device)
    with torch.inference_mode():
        written = model.generate(
            input_ids=start,
            attention_mask=torch.ones_like(start),
            max_new_tokens=limit,
            do_sample=sample,
            eos_token_id=list(stops) or None,
            pad_token_id=padding,
            **({} if sample else {"temperature": None, "top_p": None, "top_k": None}),
        )
    return [int(token) for token in written[0, len(prompt) :]]
