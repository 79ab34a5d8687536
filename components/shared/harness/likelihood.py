"""How likely continuations are, to a model that reads, or to one that thinks before each token of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from components.shared.models.remote_code.thoughts import think
from components.shared.runtime.errors import InputError
from components.shared.training.head import hidden_states, outcomes


class Likelihood(NamedTuple):
    """Of one continuation.

    :param log: its log-probability in nats.
    :param greedy: whether it is what greedy decoding writes.
    """

    log: float
    greedy: bool


class Row(NamedTuple):
    """What the model reads, and the tokens that are to come behind each of its last columns."""

    read: tuple[int, ...]
    expected: tuple[int, ...]


def row_of(context: Sequence[int], continuation: Sequence[int], most: int) -> Row:
    """The row of a continuation; what is too long for the model loses its beginning.

    :param most: tokens that the model reads at most.
    :raises InputError: the continuation alone is longer.
    """
    if len(continuation) > most:
        raise InputError(
            f"a continuation of {len(continuation)} tokens is longer than what the model reads",
            where="loglikelihood", why=f"it takes {most}", fix="leave this item out, or raise max_length",
        )  # fmt: skip
    kept = [*context, *continuation][-(most + 1) :]
    return Row(tuple(kept[:-1]), tuple(continuation))


@torch.no_grad()
def likelihoods(
    model: Any, rows: Sequence[Row], *, batch: int, thoughts: bool, length: int | None = None
) -> list[Likelihood]:
    """The likelihood of each row's expected tokens.

    What several rows read alike, as choices of one token each do, is read once. Rows of like length go together.

    :param batch: rows in one forward.
    :param thoughts: think before each expected token.
    :param length: tokens of a thought; None: as the model was trained.
    """
    alike: dict[tuple[int, ...], list[int]] = {}
    for index, row in enumerate(rows):
        alike.setdefault(row.read, []).append(index)
    texts = sorted(alike, key=len, reverse=True)
    found: dict[int, Likelihood] = {}
    for start in range(0, len(texts), batch):
        together = texts[start : start + batch]
        ids, mask = padded(together, model.device)
        asked = [(place, index) for place, text in enumerate(together) for index in alike[text]]
        if thoughts:
            token_outcomes = _thought(
                model, ids, mask, together, [(at, rows[i].expected) for at, i in asked], length
            )
        else:
            token_outcomes = _read(model, ids, mask, together, [(at, rows[i].expected) for at, i in asked])
        for (_, index), outcome in zip(asked, token_outcomes, strict=True):
            found[index] = outcome
    return [found[index] for index in range(len(rows))]


def padded(rows: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Rows of token ids, filled up on the right, and their mask: (B, T) int64 both."""
    width = max(map(len, rows))
    ids = torch.tensor([[*row, *[0] * (width - len(row))] for row in rows], device=device)
    lengths = torch.tensor([len(row) for row in rows], device=device)
    return ids, (torch.arange(width, device=device) < lengths[:, None]).long()


Asked = Sequence[tuple[int, tuple[int, ...]]]
"""(row of the batch, the tokens that are expected behind its last columns)"""


def _read(
    model: Any, ids: Tensor, mask: Tensor, texts: Sequence[Sequence[int]], asked: Asked
) -> Iterable[Likelihood]:
    """One forward pass; logits are made of the columns before an expected token alone."""
    states = hidden_states(model, ids, mask)
    counts = [len(expected) for _, expected in asked]
    behind = [states.last[at, len(texts[at]) - len(expected) : len(texts[at])] for at, expected in asked]
    targets = torch.tensor([token for _, expected in asked for token in expected], device=ids.device)
    nll, right = outcomes(torch.cat(behind), states.head, targets)
    for losses, hits in zip(nll.split(counts), right.split(counts), strict=True):
        yield Likelihood(-float(losses.double().sum()), bool(hits.all()))


def _thought(
    model: Any,
    ids: Tensor,
    mask: Tensor,
    texts: Sequence[Sequence[int]],
    asked: Asked,
    length: int | None,
) -> Iterable[Likelihood]:
    """A thought at every column before an expected token (Quiet-STaR, arXiv 2403.09629)."""
    slots = max(len(expected) for _, expected in asked)
    ends = torch.tensor([len(text) for text in texts], device=ids.device)
    positions = (ends[:, None] - slots + torch.arange(slots, device=ids.device)).clamp_min(0)
    logs = think(model, ids, mask, positions, length=length).logits.float().log_softmax(-1)
    for at, expected in asked:
        own, targets = logs[at, slots - len(expected) :], torch.tensor(expected, device=ids.device)
        right = bool((own.argmax(-1) == targets).all())
        yield Likelihood(float(own.gather(-1, targets[:, None]).double().sum()), right)
