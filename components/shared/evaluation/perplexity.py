"""Perplexity and bits per byte of a language model on a text that it was not trained on.

The text is read in windows that overlap (strided evaluation, as in transformers' guide to perplexity of fixed-length
models): each window begins `stride` tokens after the one before it, and only its last tokens are scored, those that no
window before has, so that each has at least window − stride tokens before it. With stride = window the rows are disjoint,
which is cheaper and gives a somewhat higher perplexity. Each window begins with <bos>, where a text does.

    perplexity       exp of the mean negative log-likelihood, a token
    bits per byte    the negative log-likelihood in bits over the text's bytes: comparable between tokenizers

Only logits at scored tokens are made, a chunk at a time (training/head.py).

Phase compression has figures of its own (components/compression/allocation/text.py): of disjoint rows without <bos>. Its
perplexity of the same text is somewhat higher.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from components.shared.runtime.errors import InputError
from components.shared.tasks.batches import IGNORED
from components.shared.tasks.prompting import has_chat_template, padding_id
from components.shared.training.head import cross_entropies, hidden_states, labelled

from .answers import evaluating
from .statistics import ratio_interval

WINDOW, STRIDE = 512, 256
"""Tokens of a window, and from one window to the next."""


@dataclass(frozen=True)
class TextScore:
    """How well a model predicts a text.

    :param nll: nats of all scored tokens together.
    :param tokens: scored ones.
    :param bytes: of the text that they stand for.
    :param ends: of the 95% interval of nll a token, over the windows; None where there is one window alone.
    """

    nll: float
    tokens: int
    bytes: int
    ends: tuple[float, float] | None = None

    @property
    def perplexity(self) -> float:
        """The exponential of the mean negative log-likelihood of a token."""
        return _exp(self.nll / self.tokens)

    @property
    def bits_per_byte(self) -> float:
        """Bits that a coder with the model's predictions spends on a byte."""
        return self.nll / math.log(2) / self.bytes

    def as_dict(self) -> dict[str, float]:
        """Both figures with the ends of their intervals, and how many tokens stand behind them."""
        found = {
            "perplexity": self.perplexity,
            "bits_per_byte": self.bits_per_byte,
            "tokens": float(self.tokens),
        }
        for end, mean in zip(("low", "high"), self.ends or (), strict=False):
            found[f"perplexity_{end}"] = _exp(mean)
            found[f"bits_per_byte_{end}"] = mean * self.tokens / math.log(2) / self.bytes
        return found


def _exp(mean: float) -> float:
    return math.exp(min(mean, 700.0))


def text_score(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    text: str,
    *,
    window: int = WINDOW,
    stride: int = STRIDE,
    batch: int = 8,
    most: int | None = None,
) -> TextScore:
    """Score a text.

    :param window: tokens that the model reads at a time at most; no more than it has positions.
    :param stride: tokens from one window to the next, 1 … window.
    :param batch: windows in one forward pass.
    :param most: tokens that are scored at most, from the beginning.
    :raises InputError: the text has fewer than two tokens, or a stride leaves tokens out.
    """
    if not 1 <= stride <= window:
        raise InputError(
            f"a stride of {stride} leaves tokens of a window of {window} out", where="perplexity"
        )
    positions = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    ids = ids if most is None else ids[:most]
    if len(ids) < 2:
        raise InputError("the text is too short to score", where="perplexity", fix="give one of some lines")
    start = first_tokens(tokenizer)
    width = min(window, positions or window) - len(start)
    device = next(model.parameters()).device
    pieces = list(windows(ids, width, min(stride, width), begun=bool(start)))
    losses: list[torch.Tensor] = []
    with evaluating(model):
        for first in range(0, len(pieces), batch):
            rows = [
                ([*start, *ids[piece.begin : piece.end]], len(start) + piece.scored - piece.begin)
                for piece in pieces[first : first + batch]
            ]
            widest = max(len(row) for row, _ in rows)
            padding = padding_id(tokenizer)
            input_ids = torch.tensor(
                [row + [padding] * (widest - len(row)) for row, _ in rows], device=device
            )
            labels = torch.full_like(input_ids, IGNORED)
            for number, (row, scored) in enumerate(rows):
                labels[number, scored : len(row)] = input_ids[number, scored : len(row)]
            hidden = hidden_states(model, input_ids)  # causality hides what is padded on the right
            states, targets = labelled(hidden.last, labels)
            counts = [len(row) - scored for row, scored in rows]
            losses += cross_entropies(states, hidden.head, targets).double().cpu().split(counts)
    scored = ids if start else ids[1:]
    nll, sizes = np.array([[float(loss.sum()), len(loss)] for loss in losses]).T
    ends = ratio_interval(nll, sizes) if len(losses) > 1 else None
    return TextScore(float(nll.sum()), len(scored), len(str(tokenizer.decode(scored)).encode()), ends)


def file_score(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    path: Path,
    *,
    batch: int = 8,
    most: int | None = None,
) -> TextScore:
    """Score the text in a file; as `text_score`.

    :raises InputError: there is no such file, or it is no text.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            "the held-out text cannot be read",
            where=str(path),
            why=str(error),
            fix="give a file of UTF-8 text",
        ) from error
    return text_score(model, tokenizer, text, batch=batch, most=most)


def first_tokens(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """What a text begins with: <bos>, unless it begins a turn of the chat template, as some tokenizers' does."""
    bos = tokenizer.bos_token_id
    if bos is None:
        return []
    begun = tokenizer("a")["input_ids"]
    return [bos] if begun[:1] == [bos] or not has_chat_template(tokenizer) else []


@dataclass(frozen=True)
class Window:
    """Tokens begin … end of a text are read, and those from `scored` on are scored."""

    begin: int
    scored: int
    end: int


def windows(ids: Sequence[int], width: int, stride: int, *, begun: bool) -> Iterator[Window]:
    """Windows in which each token is scored once.

    :param begun: something stands in front of each window, so that the text's first token can be scored too.
    """
    done, begin = 0 if begun else 1, 0
    while done < len(ids):
        end = min(begin + width, len(ids))
        yield Window(begin, done, end)
        done = end
        begin = min(begin + stride, done if begun else done - 1)  # the first token that is read is not scored
