"""The arms compared on held-out questions: the same items, the same positions, one forward pass of thinking each.

An answer is right when, at every one of its tokens and at <eos>, the most likely token is the true one: exactly when greedy
generation with thinking would give it. All ways of answering leave <think>, </think> and <pause> out of what can be said,
so that none gains from the others' words.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from components.shared.evaluation.answers import batches, evaluating
from components.shared.models.remote_code.thoughts import read, silence, think_at
from components.shared.tasks.batches import IGNORED, without_scratch
from components.shared.tasks.item import Item

from .vocabulary import Words

Way = Literal["no thought", "pause", "thoughts", "shuffled"]


class Marks(NamedTuple):
    """Item by item, in the order of the items."""

    right: list[bool]
    nll: list[float]  # nats a token of the answer, <eos> counted


def answer_positions(labels: Tensor) -> tuple[Tensor, Tensor]:
    """labels (B, T) → positions (B, S) of all columns whose next token is labelled, and (B, S) bool, False where padded."""
    open_ = F.pad(labels[:, 1:] != IGNORED, (0, 1))
    width = int(open_.sum(-1).max())
    positions = open_.to(torch.uint8).argsort(dim=-1, descending=True, stable=True)[:, :width]
    return positions, open_.gather(1, positions)


def sit(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    items: Sequence[Item],
    way: Way,
    words: Words,
    *,
    batch: int,
) -> Marks:
    """Answer the items in one way.

    `thoughts` are greedy; `shuffled` gives every row the thoughts of another row of its batch, so that what is thought has
    the right form and the wrong content.
    """
    right, nll = np.zeros(len(items), dtype=bool), np.zeros(len(items))
    device = next(model.parameters()).device
    with evaluating(model):
        for places, rows in batches([without_scratch(item) for item in items], tokenizer, batch):
            rows = rows.to(device)
            text = read(model, rows.input_ids, rows.attention_mask)
            positions, valid = answer_positions(rows.labels)
            targets = F.pad(rows.labels, (0, 1)).gather(1, positions + 1).masked_fill(~valid, IGNORED)
            if way == "no thought":
                logits = text.logits.gather(1, positions[..., None].expand(-1, -1, text.logits.shape[-1]))
            elif way == "pause":
                length = model.config.thoughts["length"]
                pauses = torch.full((*positions.shape, length), words.pause, device=device)
                logits = think_at(model, text, positions, thoughts=pauses).logits
            else:
                thought = think_at(model, text, positions)
                if way == "shuffled":
                    thought = think_at(model, text, positions, thoughts=thought.tokens.roll(1, dims=0))
                logits = thought.logits
            logits = silence(logits.float(), tuple(words))
            each = F.cross_entropy(logits.transpose(1, 2), targets, ignore_index=IGNORED, reduction="none")
            right[places] = ((logits.argmax(-1) == targets) | ~valid).all(-1).cpu().numpy()
            nll[places] = (each.double().sum(-1) / valid.sum(-1)).cpu().numpy()
    return Marks(right.tolist(), nll.tolist())
