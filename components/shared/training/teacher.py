"""What a teacher predicts, kept small: its k likeliest tokens at each place, and the probability of all others together.

Of V probabilities a few hold nearly all. KL(teacher ‖ student) over the k likeliest tokens and one bucket for the rest is
that of the two distributions with the rest merged. By the log-sum inequality it never exceeds the whole KL, and with k = V
it is the whole.

n places, V vocabulary.
"""

from __future__ import annotations

import tempfile
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .head import Head, over_chunks

IN_MEMORY = 1 << 28
"""Bytes up to which what a teacher predicts stays in memory; more lies in a file that is mapped."""


class Teacher(NamedTuple):
    """What a teacher predicts at n places.

    log_p   (n, k) float32 log-probabilities of its likeliest tokens, falling; with k = V of all, in their order
    ids     (n, k) int32, these tokens; (n, 0) with k = V
    tail    (n,) float32 log-probability of all others together; −∞ with k = V
    """

    log_p: Tensor
    ids: Tensor
    tail: Tensor

    def at(self, rows: Tensor) -> Teacher:
        """Some of the places. rows: (m,) int64."""
        return Teacher(self.log_p[rows], self.ids[rows], self.tail[rows])


def empty(places: int, width: int, k: int) -> Teacher:
    """Room for the predictions at `places` places, in memory or where that would be much in a file without a name.

    :param width: V.
    :param k: tokens kept of each; V or more: all.
    """
    k = min(k, width)
    kept = 0 if k == width else k
    room = _in_memory if places * (4 * k + 4 * kept + 4) <= IN_MEMORY else _in_file
    return Teacher(
        room((places, k), torch.float32), room((places, kept), torch.int32), room((places,), torch.float32)
    )


def _in_memory(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    return torch.empty(shape, dtype=dtype)


def _in_file(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    count = torch.Size(shape).numel()
    if not count:
        return torch.empty(shape, dtype=dtype)
    with tempfile.NamedTemporaryFile(prefix="teacher-") as file:  # mapped, it lives on without its name
        file.truncate(count * dtype.itemsize)
        return torch.from_file(file.name, shared=True, size=count, dtype=dtype).view(shape)


@torch.no_grad()
def predictions(hidden: Tensor, head: Head, k: int) -> Teacher:
    """What is predicted at hidden states (n, d), on their device.

    :param k: tokens kept of each; V or more: all.
    """
    if k >= head.width:
        log_p = over_chunks(hidden, head, lambda logits: F.log_softmax(logits, dim=-1))
        return Teacher(
            log_p,
            log_p.new_empty(len(log_p), 0, dtype=torch.int32),
            log_p.new_full((len(log_p),), -torch.inf),
        )

    def likeliest(logits: Tensor) -> Tensor:
        top = logits.topk(k, dim=-1)
        total = logits.logsumexp(-1, keepdim=True)
        rest = logits.scatter(-1, top.indices, -torch.inf).logsumexp(-1, keepdim=True)
        return torch.cat([top.values - total, rest - total, top.indices.to(logits.dtype)], dim=-1)

    # Indices as floats are exact up to 2^24 tokens.
    found = over_chunks(hidden, head, likeliest)
    return Teacher(found[:, :k], found[:, k + 1 :].to(torch.int32), found[:, k])


def kl(hidden: Tensor, head: Head, teacher: Teacher, *, chunk: int | None = None) -> Tensor:
    """KL(teacher ‖ student) at each place, in nats, with its graph: a lower bound of it where k < V.

    :param hidden: (n, d) of the student.
    :returns: (n,).
    """
    log_p, ids, tail = (each.to(hidden.device) for each in teacher)
    if not ids.shape[1]:
        return over_chunks(hidden, head, _whole, log_p, chunk=chunk)
    return over_chunks(hidden, head, _merged, log_p, ids, tail, chunk=chunk)


def _whole(logits: Tensor, log_p: Tensor) -> Tensor:
    return F.kl_div(F.log_softmax(logits, dim=-1), log_p, reduction="none", log_target=True).sum(-1)


def _merged(logits: Tensor, log_p: Tensor, ids: Tensor, tail: Tensor) -> Tensor:
    total = logits.logsumexp(-1, keepdim=True)
    kept = logits.gather(-1, ids.long()) - total
    rest = (logits.scatter(-1, ids.long(), -torch.inf).logsumexp(-1, keepdim=True) - total)[:, 0]
    merged = (log_p.exp() * (log_p - kept)).sum(-1)
    return merged + torch.where(tail.isneginf(), 0.0, tail.exp() * (tail - rest))
