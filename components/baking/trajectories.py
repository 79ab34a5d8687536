"""What the prompted teacher says, laid beside the same answer without the prompt.

Prompt baking (arXiv 2409.13697) compares two next-token distributions after the same answer prefix y<t: the teacher's,
which sees the instruction u and the question x0, and the student's, which sees x0 alone. Every token of the answer counts,
its first and its <eos> included: both are predictions that the instruction changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from components.shared.evaluation.sampling import ROWS
from components.shared.tasks.item import Item


class Rows(NamedTuple):
    """Right-padded sequences and where their answers are predicted.

    input_ids  (B, T) int64
    predicts   (B, T) bool: the logits at this place predict a token of the answer (its first … its <eos>)
    """

    input_ids: Tensor
    predicts: Tensor


def rows(prompts: Sequence[list[int]], answers: Sequence[list[int]], padding: int) -> Rows:
    """Prompts and answers (token ids) as rows. The token before the first of the answer predicts the first."""
    width = max(len(p) + len(a) for p, a in zip(prompts, answers, strict=True))
    ids = torch.full((len(prompts), width), padding)
    predicts = torch.zeros(len(prompts), width, dtype=torch.bool)
    for row, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        ids[row, : len(prompt) + len(answer)] = torch.tensor(prompt + answer)
        predicts[row, len(prompt) - 1 : len(prompt) + len(answer) - 1] = True
    return Rows(ids, predicts)


def answer_ids(items: Sequence[Item], tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    """`answer <eos>` of each item."""
    texts = [item.answer for item in items]
    return [[*ids, tokenizer.eos_token_id] for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]]


@torch.no_grad()
def answer_log_probabilities(model: PreTrainedModel, batch: Rows) -> Tensor:
    """(n, V) float32 log-probabilities at the n places that predict an answer, row by row."""
    parts = []
    for start in range(0, len(batch.input_ids), ROWS):
        part = Rows(*(tensor[start : start + ROWS] for tensor in batch))
        parts.append(log_probabilities(model, part).cpu())
    return torch.cat(parts)


def log_probabilities(model: nn.Module, batch: Rows) -> Tensor:
    """The same for one pass, with gradients."""
    device = next(model.parameters()).device
    logits = model(input_ids=batch.input_ids.to(device)).logits[batch.predicts.to(device)]
    return F.log_softmax(logits.float(), dim=-1)


def kl(teacher: Tensor, student: Tensor) -> Tensor:
    """Mean KL(teacher ‖ student) over tokens, nats; both (n, V) log-probabilities."""
    return F.kl_div(student, teacher, reduction="batchmean", log_target=True)
