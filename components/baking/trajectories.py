"""What the prompted teacher says, laid beside the same answer without the prompt.

Prompt baking (arXiv 2409.13697) compares two next-token distributions after the same answer prefix y<t: the teacher's,
which sees the instruction u and the question x0, and the student's, which sees x0 alone. Every token of the answer counts,
its first and its <eos> included: both are predictions that the instruction changes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from components.shared.tasks.item import Item

ROWS = 64
"""Sequences in one forward pass where no gradient is needed."""


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


def prompt_ids(items: Sequence[Item], tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    """`<bos> system prompt` of each item."""
    start = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    texts = [item.system + item.prompt for item in items]
    return [start + ids for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]]


def answer_ids(items: Sequence[Item], tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    """`answer <eos>` of each item."""
    texts = [item.answer for item in items]
    return [[*ids, tokenizer.eos_token_id] for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]]


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
    """
    said: list[list[int]] = [[] for _ in prompts]
    for places in _of_one_length(prompts):
        ids = torch.tensor([prompts[place] for place in places], device=model.device)
        open_rows, cache = torch.ones(len(places), dtype=torch.bool), None
        for _ in range(limit):
            out = model(input_ids=ids, past_key_values=cache, use_cache=True)
            logits, cache = out.logits[:, -1].float().cpu(), out.past_key_values
            if temperature:
                chosen = torch.multinomial((logits / temperature).softmax(-1), 1, generator=generator)[:, 0]
            else:
                chosen = logits.argmax(-1)
            for row in open_rows.nonzero()[:, 0].tolist():
                said[places[row]].append(int(chosen[row]))
            open_rows &= chosen != eos
            if not open_rows.any():
                break
            ids = chosen[:, None].to(model.device)
    return said


def _of_one_length(prompts: Sequence[list[int]]) -> Iterator[list[int]]:
    lengths: dict[int, list[int]] = {}
    for place, prompt in enumerate(prompts):
        lengths.setdefault(len(prompt), []).append(place)
    for _, places in sorted(lengths.items()):
        for start in range(0, len(places), ROWS):
            yield places[start : start + ROWS]


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
