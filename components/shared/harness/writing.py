"""What a model writes after contexts, up to strings that end it: in slots, thinking, or by the model's own `generate`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from transformers import PreTrainedTokenizerBase

from components.shared.generation.batch import generate
from components.shared.generation.cache import why_not
from components.shared.generation.endings import ended_by
from components.shared.generation.requests import Decoding, Request
from components.shared.generation.texts import alone
from components.shared.models.remote_code.thoughts import generate_with_thoughts
from components.shared.runtime.errors import ConfigError

from .likelihood import padded

LIMITS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
"""What the harness and its tasks call the length of an answer; the first of them counts."""


class Wanted(NamedTuple):
    """How a task wants an answer to be written.

    :param limit: tokens.
    :param until: strings that end it; they are no part of it.
    """

    limit: int
    until: tuple[str, ...]
    decoding: Decoding


def wanted(options: Mapping[str, Any], limit: int) -> Wanted:
    """What the generation settings of a task (`generation_kwargs`) mean.

    :param limit: of tokens, where they say none.
    :raises ConfigError: they ask for something that is not known here: it would be another figure without it.
    """
    rest = dict(options)
    limits = [rest.pop(name) for name in LIMITS if name in rest]
    until = rest.pop("until", ())
    sample, temperature = rest.pop("do_sample", None), float(rest.pop("temperature", None) or 0.0)
    top_k, top_p = int(rest.pop("top_k", 0) or 0), float(rest.pop("top_p", None) or 1.0)
    penalty = float(rest.pop("repetition_penalty", 1.0))
    if rest:
        raise ConfigError(
            f"the task's generation settings {', '.join(sorted(rest))} are not known",
            where="generation_kwargs",
            fix="leave them out: until, max_gen_toks, do_sample, temperature, top_k, top_p, repetition_penalty are known",
        )
    if sample is False or (sample is None and not temperature):
        decoding = Decoding(repetition_penalty=penalty)
    else:
        decoding = Decoding(temperature or 1.0, top_k, top_p, penalty)
    return Wanted(
        int(next((value for value in limits if value is not None), limit)),
        (until,) if isinstance(until, str) else tuple(until or ()),
        decoding,
    )


def texts_after(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[int]],
    want: Wanted,
    *,
    stops: Sequence[int],
    padding: int,
) -> list[list[int]]:
    """What a model writes after each prompt: token ids, up to what ends them.

    :param stops: tokens that end a text.
    :param padding: an id that fills rows up.
    """
    draws = (
        torch.randint(2**62, (len(prompts),)).tolist() if want.decoding.temperature else [0] * len(prompts)
    )
    if not why_not(model):
        ended = ended_by(tokenizer, want.until)
        return generate(
            model,
            [
                Request(prompt, want.limit, frozenset(stops), want.decoding, seed, ended)
                for prompt, seed in zip(prompts, draws, strict=True)
            ],
        )
    if want.decoding not in (Decoding(), Decoding(1.0)):
        raise ConfigError(
            "this model is asked for another decoding than it can be", where="generation_kwargs", why=why_not(model),
            fix="decode greedily, or sample with its own settings",
        )  # fmt: skip
    return [
        alone(
            model,
            prompt,
            want.limit,
            stops=stops,
            sample=bool(want.decoding.temperature),
            seed=seed,
            padding=padding,
        )
        for prompt, seed in zip(prompts, draws, strict=True)
    ]


def thoughtful_texts(
    model: Any,
    prompts: Sequence[Sequence[int]],
    limit: int,
    *,
    stops: Sequence[int],
    length: int | None,
    batch: int,
) -> list[list[int]]:
    """What a model writes after each prompt that thinks before every token; greedy.

    :param length: tokens of a thought; None: as the model was trained.
    """
    order = sorted(range(len(prompts)), key=lambda index: -len(prompts[index]))
    written: list[list[int]] = [[] for _ in prompts]
    for start in range(0, len(order), batch):
        indices = order[start : start + batch]
        ids, mask = padded([prompts[index] for index in indices], model.device)
        rows = generate_with_thoughts(model, ids, mask, limit=limit, stops=stops, length=length).tolist()
        for index, row in zip(indices, rows, strict=True):
            written[index] = row
    return written
