"""What is asked of a model that writes: a prompt, and how its tokens are chosen and end.

A sampled token is where a uniform number of the request's own stream falls in the cumulated distribution: what is drawn
depends on the request alone, not on the texts beside it, their number or their threads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Decoding:
    """How a token is chosen.

    :param temperature: 0 is greedy.
    :param top_k: only the k likeliest tokens are drawn; 0: all.
    :param top_p: only the likeliest tokens that together have this probability are drawn (nucleus sampling).
    :param repetition_penalty: logits of tokens that the text has are divided by it, or multiplied where negative
        (CTRL, arXiv 1909.05858).
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    repetition_penalty: float = 1.0


@dataclass(frozen=True)
class Request:
    """A text to go on with.

    :param prompt: token ids, at least one.
    :param limit: tokens to write at most.
    :param stops: tokens that end the text; the one that did is its last.
    :param seed: of the draws.
    :param ended: told the tokens written so far, whether the text ends with them: strings that end a text are seen in
        text alone.
    """

    prompt: Sequence[int]
    limit: int
    stops: frozenset[int] = frozenset()
    decoding: Decoding = Decoding()
    seed: int = 0
    ended: Callable[[Sequence[int]], bool] | None = None


def choose(logits: Tensor, decoding: Decoding, uniforms: Tensor) -> Tensor:
    """The next tokens of texts that are decoded alike.

    :param logits: (rows, V) float32.
    :param uniforms: (rows,) in [0, 1), one for each draw.
    :returns: (rows,) int64.
    """
    if not decoding.temperature:
        return logits.argmax(-1)
    logits = logits / decoding.temperature
    if decoding.top_k and decoding.top_k < logits.shape[-1]:
        least = logits.topk(decoding.top_k).values[:, -1:]
        logits = logits.masked_fill(logits < least, -torch.inf)
    p = logits.softmax(-1)
    if decoding.top_p < 1:
        ordered, order = p.sort(-1, descending=True)
        outside = ordered.cumsum(-1) - ordered >= decoding.top_p
        p = p.masked_fill(torch.zeros_like(outside).scatter(-1, order, outside), 0.0)
    cumulated = p.double().cumsum(-1)
    drawn = torch.searchsorted(cumulated, uniforms.double()[:, None] * cumulated[:, -1:], right=True)[:, 0]
    last = (
        p.shape[-1] - 1 - (p.flip(-1) > 0).long().argmax(-1)
    )  # rounding leads past no token that can be drawn
    return torch.minimum(drawn, last)


def penalised(logits: Tensor, text: Sequence[int], penalty: float) -> Tensor:
    """Logits (V) with the tokens of a text made less likely."""
    tokens = torch.tensor(sorted(set(text)), device=logits.device)
    chosen = logits[tokens]
    return logits.index_copy(0, tokens, torch.where(chosen < 0, chosen * penalty, chosen / penalty))
