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
from components.shared.models.remote_code.thoughts import (
    encode_text,
    head_of,
    silence,
    think_at,
    without_thought,
)
from components.shared.tasks.batches import IGNORED, Batch, without_scratch
from components.shared.tasks.item import Item
from components.shared.training.side_by_side import pieces_of

from .vocabulary import ThoughtTokens

Mode = Literal["no thought", "pause", "thoughts", "shuffled"]
"""How questions are answered."""


class ItemScores(NamedTuple):
    """Item by item, in the order of the items.

    right  whether the whole answer is the most likely one
    nll    negative log-likelihood, nats a token of the answer, <eos> counted
    """

    right: list[bool]
    nll: list[float]


def answer_positions(labels: Tensor) -> tuple[Tensor, Tensor]:
    """All columns whose next token is labelled.

    :param labels: (B, T) int64, aligned with the text.
    :returns: positions (B, S) in ascending order, and (B, S) bool, False where a row has fewer.
    """
    predicts = F.pad(labels[:, 1:] != IGNORED, (0, 1))
    width = int(predicts.sum(-1).max())
    positions = predicts.to(torch.uint8).argsort(dim=-1, descending=True, stable=True)[:, :width]
    return positions, predicts.gather(1, positions)


def evaluate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    items: Sequence[Item],
    mode: Mode,
    tokens: ThoughtTokens,
    *,
    batch: int,
) -> ItemScores:
    """Answer the items in one mode.

    `thoughts` are greedy; `shuffled` gives every row the thoughts of another row of its batch, so that what is thought has
    the right form and the wrong content.

    :param tokens: ids of the words of thinking, which no answer may hold.
    :param batch: items in a forward pass.
    """
    right, nll = np.zeros(len(items), dtype=bool), np.zeros(len(items))
    device = next(model.parameters()).device

    @torch.no_grad()
    def measure(piece: tuple[list[int], Batch]) -> None:
        indices, rows = piece[0], piece[1].to(device)
        text = encode_text(model, rows.input_ids, rows.attention_mask)
        positions, valid = answer_positions(rows.labels)
        targets = F.pad(rows.labels, (0, 1)).gather(1, positions + 1).masked_fill(~valid, IGNORED)
        if mode == "no thought":
            logits = head_of(model)(without_thought(text, positions))
        elif mode == "pause":
            length = model.config.thoughts["length"]
            pauses = torch.full((*positions.shape, length), tokens.pause, device=device)
            logits = think_at(model, text, positions, thoughts=pauses).logits
        else:
            thought = think_at(model, text, positions)
            if mode == "shuffled":
                thought = think_at(model, text, positions, thoughts=thought.tokens.roll(1, dims=0))
            logits = thought.logits
        logits = silence(logits.float(), tuple(tokens))
        each = F.cross_entropy(logits.transpose(1, 2), targets, ignore_index=IGNORED, reduction="none")
        right[indices] = ((logits.argmax(-1) == targets) | ~valid).all(-1).cpu().numpy()
        nll[indices] = (each.double().sum(-1) / valid.sum(-1)).cpu().numpy()

    with evaluating(model):
        pieces_of(model)(measure, list(batches([without_scratch(item) for item in items], tokenizer, batch)))
    return ItemScores(right.tolist(), nll.tolist())
