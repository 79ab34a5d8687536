"""A teacher's likeliest tokens and the rest in one bucket."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from components.shared.training import teacher as teacher_of
from components.shared.training.head import Head
from components.shared.training.teacher import Teacher, empty, kl, predictions

WIDTH = 50


def sides() -> tuple[torch.Tensor, Head, torch.Tensor, Head]:
    """Hidden states and head of a teacher and of a student."""
    torch.manual_seed(0)
    made = []
    for _ in range(2):
        layer = torch.nn.Linear(8, WIDTH)
        made += [2 * torch.randn(20, 8), Head(layer, 1.0, None, WIDTH)]
    return tuple(made)  # type: ignore[return-value]


def whole_kl(of: torch.Tensor, head: Head, student: torch.Tensor, own: Head) -> torch.Tensor:
    """From all logits at once."""
    log_p, log_q = F.log_softmax(head(of), -1), F.log_softmax(own(student), -1)
    return (log_p.exp() * (log_p - log_q)).sum(-1)


def test_with_all_tokens_the_divergence_is_the_whole_one() -> None:
    of, head, student, own = sides()
    found = kl(student, own, predictions(of, head, WIDTH), chunk=3 * WIDTH)
    torch.testing.assert_close(found, whole_kl(of, head, student, own))


def test_with_fewer_it_is_a_lower_bound_that_grows_with_their_number() -> None:
    of, head, student, own = sides()
    bounds = torch.stack([kl(student, own, predictions(of, head, k)) for k in (1, 4, 16, WIDTH - 1, WIDTH)])
    assert (bounds.diff(dim=0) >= -1e-5).all()
    assert (bounds >= -1e-6).all()
    assert bounds[2].mean() > 0.5 * bounds[-1].mean()


def test_its_gradient_is_that_of_the_merged_distributions() -> None:
    of, head, student, own = sides()
    teacher = predictions(of, head, 5)
    student.requires_grad_()
    (found,) = torch.autograd.grad(kl(student, own, teacher, chunk=2 * WIDTH).sum(), student)
    p, q = F.softmax(head(of), -1), F.softmax(own(student), -1)
    kept_p, kept_q = p.gather(-1, teacher.ids.long()), q.gather(-1, teacher.ids.long())
    merged_p, merged_q = (torch.cat([kept, 1 - kept.sum(-1, keepdim=True)], -1) for kept in (kept_p, kept_q))
    expected = torch.autograd.grad((merged_p * (merged_p / merged_q).log()).sum(), student)[0]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_likeliest_tokens_and_the_rest_add_up_to_one() -> None:
    of, head, _, _ = sides()
    teacher = predictions(of, head, 7)
    torch.testing.assert_close(teacher.log_p.exp().sum(-1) + teacher.tail.exp(), torch.ones(20))
    assert torch.equal(teacher.ids[:, 0].long(), head(of).argmax(-1))


def test_what_is_much_lies_in_a_mapped_file(monkeypatch: pytest.MonkeyPatch) -> None:
    of, head, _, _ = sides()
    for k in (4, WIDTH):
        found = predictions(of, head, k)
        monkeypatch.setattr(teacher_of, "IN_MEMORY", 0)
        room = empty(20, WIDTH, k)
        for kept, part in zip(room, found, strict=True):
            kept.copy_(part)
        for kept, part in zip(room.at(torch.arange(5)), Teacher(*found).at(torch.arange(5)), strict=True):
            assert torch.equal(kept, part)
