"""What the prompted teacher says, laid beside the same answer without the prompt.

Prompt baking (arXiv 2409.13697) compares two next-token distributions after the same answer prefix y<t: the teacher's,
which sees the instruction u and the question x0, and the student's, which sees x0 alone. Every token of the answer counts,
its first and its <eos> included: both are predictions that the instruction changes.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from components.shared.evaluation.sampling import ROWS, sample_answers
from components.shared.tasks.batches import without_scratch
from components.shared.tasks.item import Item
from components.shared.tasks.prompting import padding_id, prompt_ids, stop_ids, tail_ids
from components.shared.training.head import Head, head_of, hidden_states
from components.shared.training.side_by_side import pieces_of
from components.shared.training.teacher import Teacher, empty, kl, predictions


class Rows(NamedTuple):
    """Right-padded sequences and where their answers are predicted.

    input_ids  (B, T) int64
    predicts   (B, T) bool: the logits at this position predict a token of the answer (its first … its <eos>)
    """

    input_ids: Tensor
    predicts: Tensor


def rows(prompts: Sequence[list[int]], answers: Sequence[list[int]], padding: int) -> Rows:
    """Prompts and answers as rows. The token before the first of the answer predicts the first.

    :param prompts: token ids.
    :param answers: token ids, as many.
    :param padding: id that fills rows up.
    """
    width = max(len(p) + len(a) for p, a in zip(prompts, answers, strict=True))
    ids = torch.full((len(prompts), width), padding)
    predicts = torch.zeros(len(prompts), width, dtype=torch.bool)
    for row, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        ids[row, : len(prompt) + len(answer)] = torch.tensor(prompt + answer)
        predicts[row, len(prompt) - 1 : len(prompt) + len(answer) - 1] = True
    return Rows(ids, predicts)


class DistillationSet(NamedTuple):
    """Rows for the student, and what the teacher predicts at the n positions that predict answers."""

    rows: Rows
    teacher: Teacher

    def parts(self, indices: Tensor, size: int) -> Iterator[tuple[float, DistillationSet]]:
        """Some of the rows, `size` of like length together: less padding. Each part with its share of all their tokens.

        :param indices: (b,) int64.
        """
        predicts = self.rows.predicts[indices]
        lengths = (predicts.long() * torch.arange(predicts.shape[1])).amax(1)
        total = int(predicts.sum())
        for chosen in indices[lengths.argsort(stable=True)].split(size):
            yield int(self.rows.predicts[chosen].sum()) / total, self.select(chosen)

    def select(self, indices: Tensor) -> DistillationSet:
        """Some of the rows, no wider than their answers need.

        :param indices: (b,) int64.
        """
        counts = self.rows.predicts.sum(-1).tolist()
        ends = list(itertools.accumulate(counts))
        teacher_rows = torch.tensor(
            [row for i in indices.tolist() for row in range(ends[i] - counts[i], ends[i])], dtype=torch.int64
        )
        columns = torch.arange(self.rows.predicts.shape[1])
        width = int((self.rows.predicts[indices].long() * columns).max()) + 1
        part = Rows(self.rows.input_ids[indices, :width], self.rows.predicts[indices, :width])
        return DistillationSet(part, self.teacher.at(teacher_rows))


def answer_predictions(model: PreTrainedModel, batch: Rows, k: int) -> Teacher:
    """What the model predicts for the answers, without gradients, some rows of like length at a time: less padding.

    :param k: likeliest tokens kept at each place.
    :returns: of the n places that predict an answer, row by row, on the CPU.
    """
    lengths = (batch.predicts.long() * torch.arange(1, batch.predicts.shape[1] + 1)).amax(1).clamp(min=1)
    pieces = lengths.argsort(stable=True).split(ROWS)
    counts = batch.predicts.sum(1)
    ends = counts.cumsum(0)
    kept = empty(int(ends[-1]), head_of(model).width, k)

    @torch.no_grad()
    def predict(chosen: Tensor) -> None:
        width = int(lengths[chosen].max())
        said = predictions(*answer_states(model, Rows(*(tensor[chosen, :width] for tensor in batch))), k)
        places = torch.cat([torch.arange(int(ends[row] - counts[row]), int(ends[row])) for row in chosen])
        for whole, part in zip(kept, said, strict=True):
            whole[places] = part.cpu()

    pieces_of(model)(predict, pieces)
    return kept


def answer_states(model: nn.Module, batch: Rows) -> tuple[Tensor, Head]:
    """The hidden states (n, d) that predict the answers, with gradients, on the model's device, and the head."""
    device = next(model.parameters()).device
    hidden = hidden_states(model, batch.input_ids.to(device))
    return hidden.last[batch.predicts.to(device)], hidden.head


def divergence(model: nn.Module, part: DistillationSet) -> Tensor:
    """Mean KL(teacher ‖ model) over the tokens of answers, in nats: a scalar with its graph."""
    return kl(*answer_states(model, part.rows), part.teacher).mean()


def prompted_set(
    teacher: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompted: Sequence[Item],
    plain: Sequence[Item],
    *,
    limit: int,
    temperature: float,
    k: int,
    generator: torch.Generator,
) -> DistillationSet:
    """The prompted teacher's sampled answers, laid behind the same questions without the prompt.

    :param teacher: the model, as it is before the bake.
    :param prompted: items with their instruction.
    :param plain: the same items without it.
    :param limit: tokens of an answer at most.
    :param temperature: of the sampling; the distributions compared are those at temperature 1.
    :param k: likeliest tokens of the teacher kept at each place.
    """
    prompts, padding = prompt_ids(prompted, tokenizer), padding_id(tokenizer)
    answers = sample_answers(
        teacher,
        prompts,
        stops=stop_ids(tokenizer, teacher),
        limit=limit,
        temperature=temperature,
        generator=generator,
    )
    said = answer_predictions(teacher, rows(prompts, answers, padding), k)
    return DistillationSet(rows(prompt_ids(plain, tokenizer), answers, padding), said)


def anchor_set(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, items: Sequence[Item], k: int
) -> DistillationSet:
    """What the model says to these items, at the positions of their right answers: its k likeliest tokens at each."""
    plain = [without_scratch(item) for item in items]
    batch = rows(prompt_ids(items, tokenizer), tail_ids(plain, tokenizer), padding_id(tokenizer))
    return DistillationSet(batch, answer_predictions(model, batch, k))
