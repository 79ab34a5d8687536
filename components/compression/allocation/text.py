"""Held-out text in place of items: rows of tokens, for models that have a language of their own."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from components.shared.runtime.errors import InputError
from components.shared.tasks.batches import Batch
from components.shared.tasks.item import Item

CHARACTERS = 8
"""Of a text that are read for each token at first: a token of a byte-pair vocabulary has about four."""


@dataclass(frozen=True)
class TextRows:
    """Rows of a text, side by side in it.

    :param ids: (N, T) int64.
    :param bytes: of the text that all tokens but the first of each row stand for: what a loss in bits is shared out over.
    """

    ids: Tensor
    bytes: int

    def __len__(self) -> int:
        return len(self.ids)

    def batches(self) -> Iterator[tuple[list[int], Batch]]:
        """Row after row, with its number: the logits of one row of a real vocabulary are a hundred megabytes."""
        for number, row in enumerate(self.ids.split(1)):
            yield [number], Batch(row, row, torch.ones_like(row))

    def bits_per_byte(self, loss: float) -> float:
        """A loss in nats a token, as bits a byte of the text."""
        return loss * self.ids[:, 1:].numel() / math.log(2) / max(self.bytes, 1)


Material = Sequence[Item] | TextRows
"""What a model is judged or calibrated on: items with answers, or rows of a text."""


def text_rows(
    tokenizer: PreTrainedTokenizerBase, file: Path, row: int, counts: Sequence[int]
) -> list[TextRows]:
    """The first rows of a text, `counts` of them one part after another.

    :param row: tokens of a row.
    :raises InputError: there is no such file, it is no UTF-8 text, or it has fewer tokens.
    """
    needed = row * sum(counts)
    try:
        with file.open(encoding="utf-8") as opened:
            text = opened.read(CHARACTERS * needed)
            ids = tokenizer(text, add_special_tokens=False)["input_ids"]
            if len(ids) < needed:
                ids = tokenizer(text + opened.read(), add_special_tokens=False)["input_ids"]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError("the calibration text cannot be read", where=str(file), why=str(error)) from error
    if len(ids) < needed:
        raise InputError(
            f"a calibration text of {len(ids):,} tokens",
            where=str(file),
            why=f"{sum(counts)} rows of {row} tokens take {needed:,}",
            fix="give a longer text, or lower compression.calibration.tokens or .held_out",
        )
    rows = torch.tensor(ids[:needed]).view(-1, row).split(list(counts))
    return [
        TextRows(part, sum(len(str(tokenizer.decode(ids[1:])).encode()) for ids in part)) for part in rows
    ]


def text_metrics(rows: TextRows, before: float, after: float) -> dict[str, float]:
    """What losses of a text, nats a token, are known by; `perplexity_ratio` is what a gate of a foreign model asks for."""
    return {
        "perplexity_before": math.exp(before),
        "perplexity_after": math.exp(min(after, 700.0)),
        "perplexity_ratio": math.exp(min(after - before, 700.0)),
        "bits_per_byte_before": rows.bits_per_byte(before),
        "bits_per_byte_after": rows.bits_per_byte(after),
    }
