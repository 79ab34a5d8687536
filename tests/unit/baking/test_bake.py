"""Prompt baking: the divergence by hand, which places learn, and that a table is baked completely."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from components.baking import distillation_set
from components.baking.bake import bake
from components.baking.distillation_set import (
    DistillationSet,
    anchor_set,
    answer_predictions,
    answer_states,
    divergence,
    prompted_set,
    rows,
)
from components.shared.runtime.checkpoint.checkpoints import Checkpoints
from components.shared.runtime.errors import PhaseFailed
from components.shared.tasks.item import Item
from components.shared.tasks.prompting import padding_id, tail_ids
from components.shared.tasks.tokenizer import byte_tokenizer
from components.shared.training.teacher import Teacher, predictions

from .tables import Fixed, Parrot, Table

TOKENIZER = byte_tokenizer()
EOS = TOKENIZER.eos_token_id


def baking(model, prompted, anchors, folder, *, steps=150, anchor=0.0, lr=0.2, state=None):
    state = {"within": 0, "done": 0, "curve": []} if state is None else state
    bake(
        model, list(model.parameters()), prompted, anchors, steps=steps, batch=8, lr=lr, anchor=anchor, seed=1,
        checkpoints=Checkpoints(str(folder), "test", every=1e9), state=state, report=lambda step, metrics: None,
    )  # fmt: skip
    return state["curve"]


ALL = 300
"""Tokens kept of a teacher: more than any table has."""


def said_by(model, batch, k=ALL):
    """What a model predicts at once, without gradients."""
    with torch.no_grad():
        return predictions(*answer_states(model, batch), k)


def test_the_divergence_of_two_tokens_by_hand():
    """KL(.75, .25 ‖ .5, .5) = .75·log 1.5 + .25·log .5, and the mean with a second token on which both agree."""
    teacher, student = (
        Fixed(torch.tensor([[[0.75, 0.25], [0.9, 0.1], [0.5, 0.5]]]).log()),
        Fixed(torch.tensor([[[0.5, 0.5], [0.9, 0.1], [0.5, 0.5]]]).log()),
    )
    batch = rows([[0]], [[1, 1]], 0)
    by_hand = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    found = divergence(student, DistillationSet(batch, said_by(teacher, batch)))
    assert found.item() == pytest.approx(by_hand / 2)
    other = divergence(teacher, DistillationSet(batch, said_by(student, batch)))
    assert other.item() != pytest.approx(by_hand / 2), "the teacher stands first"


def test_with_fewer_tokens_of_the_teacher_the_divergence_is_a_lower_bound(monkeypatch):
    monkeypatch.setattr(distillation_set, "ROWS", 2)
    batch, model = rows([[0, 1], [1, 2, 3, 4], [2], [3, 3]], [[1, 5], [2, 5], [3, 4, 1, 5], [5]], 5), Table()
    found = [
        divergence(model, DistillationSet(batch, answer_predictions(Table(seed=1), batch, k))).item()
        for k in (1, 2, 4, 6)
    ]
    assert found == sorted(found) and 0 < found[0] < found[-1]
    whole = divergence(model, DistillationSet(batch, said_by(Table(seed=1), batch)))
    assert found[-1] == pytest.approx(float(whole), rel=1e-6)


def test_parts_of_like_length_weigh_together_as_much_as_all_rows_at_once():
    prompts, answers = [[0, 1], [1, 2, 3, 4], [2], [3, 3]], [[1, 5], [2, 5], [3, 4, 1, 5], [5]]
    batch, model = rows(prompts, answers, 5), Table()
    teacher = said_by(Table(seed=1), batch)
    whole, indices = DistillationSet(batch, teacher), torch.tensor([3, 1, 1, 0, 2])
    parts = list(whole.parts(indices, 2))
    assert [len(part.rows.input_ids) for _, part in parts] == [2, 2, 1]
    assert [part.rows.input_ids.shape[1] for _, part in parts] == sorted(
        part.rows.input_ids.shape[1] for _, part in parts
    )
    mean = sum(share * divergence(model, part) for share, part in parts)
    torch.testing.assert_close(mean, divergence(model, whole.select(indices)))


def test_what_the_teacher_predicts_stands_in_the_order_of_the_rows_whatever_their_lengths(monkeypatch):
    monkeypatch.setattr(distillation_set, "ROWS", 2)
    widths, model = [], Table()
    model.register_forward_pre_hook(
        lambda _, args, kwargs: widths.append(kwargs["input_ids"].shape[1]), with_kwargs=True
    )
    batch = rows([[0, 1], [1, 2, 3, 4], [2], [3, 3]], [[1, 5], [2, 5], [3, 4, 1, 5], [5]], 5)
    together = answer_predictions(model, batch, ALL)
    assert sorted(widths) == [3, 5]  # no row is wider than the longest beside it
    torch.testing.assert_close(together.log_p, said_by(model, batch).log_p)


def test_the_first_token_of_the_answer_and_its_end_are_learnt_and_the_prompt_is_not():
    """By gradients on the logits, place by place: the authors' code shifts its mask and loses these two."""
    logits = torch.zeros(2, 7, 300, requires_grad=True)
    batch = rows([[257, 1, 2], [257, 1]], [[3, 4, EOS], [EOS]], 256)
    other = torch.randn(logits.shape, generator=torch.Generator().manual_seed(0))
    divergence(Fixed(logits), DistillationSet(batch, said_by(Fixed(other), batch))).backward()
    touched = logits.grad.abs().sum(-1) > 0
    # Row 0 `<bos> 1 2 | 3 4 <eos>`: places 2, 3, 4 predict 3, 4 and <eos>. Row 1 `<bos> 1 | <eos>`: place 1 predicts <eos>.
    assert touched.nonzero().tolist() == [[0, 2], [0, 3], [0, 4], [1, 1]]


def questions():
    """Prompts without the instruction, answers, and the prompted teacher's rows for them."""
    prompts = [[first, second] for first in range(1, 5) for second in range(1, 5)]
    answers = [[1 + (a * 2 + b + n) % 4 for n in range(3)] + [5] for a, b in prompts]
    return prompts, answers


def prompted_rows(teacher):
    prompts, answers = questions()
    said = answer_predictions(teacher, rows([[0, *p] for p in prompts], answers, 5), ALL)
    return DistillationSet(rows(prompts, answers, 5), said)


def test_a_table_is_baked_until_nothing_is_left_of_the_divergence(tmp_path):
    model = Table()
    prompted = prompted_rows(model)
    curve = baking(model, prompted, prompted, tmp_path, steps=300)
    assert curve[0][0] > 0.5 and curve[-1][0] < 1e-3
    torch.testing.assert_close(
        said_by(model, prompted.rows).log_p.exp(), prompted.teacher.log_p.exp(), atol=0.02, rtol=0
    )


def test_the_anchor_keeps_what_it_holds_where_a_bake_without_it_does_not(tmp_path):
    """One logit table for all: what is baked into the shared rows shows on the anchors, unless they are held."""
    prompts, answers = questions()

    def drift(weight):
        model = Table()
        other = rows([[0, *p] for p in prompts], answers, 5)
        anchors = DistillationSet(other, answer_predictions(model, other, ALL))
        model.table.requires_grad_(False)
        shared = nn.Parameter(torch.zeros(6, 6))
        nn.utils.parametrize.register_parametrization(model, "table", Shared(shared))
        prompted = prompted_rows(model)
        baking(model, prompted, anchors, tmp_path, steps=150, anchor=weight, lr=0.05)
        return float(divergence(model, anchors).detach())

    assert drift(3.0) < 0.5 * drift(0.0)


class Shared(nn.Module):
    """The same change for both halves of the table."""

    def __init__(self, change):
        super().__init__()
        self.change = change

    def forward(self, table):
        return table + self.change


def test_a_bake_is_a_function_of_its_seed(tmp_path):
    once, again = Table(), Table()
    for model in (once, again):
        prompted = prompted_rows(model)
        baking(model, prompted, prompted, tmp_path, steps=5)
    assert torch.equal(once.table, again.table)


def test_a_loss_that_is_not_finite_stops(tmp_path):
    model = Table()
    prompted = prompted_rows(model)
    with torch.no_grad():
        model.table.fill_(float("nan"))
    with pytest.raises(PhaseFailed, match=r"baking\.lr"):
        baking(model, prompted, prompted, tmp_path)


def test_picking_rows_takes_the_teachers_rows_of_these_questions():
    prompts, answers = [[1], [1, 2], [3]], [[4, 5], [6], [7, 8, 9]]
    batch = rows(prompts, answers, 0)
    places = torch.arange(6.0)[:, None]  # one number a predicted place: 0 1 | 2 | 3 4 5
    teacher = Teacher(places, places[:, :0].int(), places[:, 0])
    part = DistillationSet(batch, teacher).select(torch.tensor([2, 0, 2]))
    assert part.teacher.tail.tolist() == part.teacher.log_p[:, 0].tolist()
    assert part.teacher.tail.tolist() == [3, 4, 5, 0, 1, 3, 4, 5]
    assert part.rows.predicts.sum(-1).tolist() == [3, 2, 3]
    assert torch.equal(part.rows.input_ids[1, :3], torch.tensor([1, 4, 5]))


def test_picked_rows_are_no_wider_than_their_answers_need():
    batch = rows([[1], [1] * 20], [[2, 3], [4]], 0)
    part = DistillationSet(batch, Teacher(torch.zeros(3, 1), torch.zeros(3, 0).int(), torch.zeros(3))).select(
        torch.tensor([0])
    )
    assert part.rows.input_ids.shape == (1, 2), "the last token of an answer predicts nothing"


def test_answers_end_with_the_end_and_rows_are_padded_with_what_the_tokenizer_has():
    item = Item("chain", 1, "train", "1+1=", "2")
    assert tail_ids([item], TOKENIZER) == [[ord("2"), EOS]]
    bare = byte_tokenizer()
    assert padding_id(bare) == bare.pad_token_id
    bare.pad_token = None
    assert padding_id(bare) == EOS


def test_the_set_is_the_prompted_answer_behind_the_question_without_the_prompt():
    plain = [Item("t", 1, "train", text, "y") for text in ("ab=", "c=")]
    prompted = [Item("t", 1, "train", item.prompt, "x", system="u: ") for item in plain]
    prompted = prompted_set(
        Parrot(EOS),
        TOKENIZER,
        prompted,
        plain,
        limit=4,
        temperature=1.0,
        k=ALL,
        generator=torch.Generator().manual_seed(0),
    )
    texts = [TOKENIZER.decode([i for i in ids if i != 256]) for ids in prompted.rows.input_ids.tolist()]
    assert texts == ["<bos>ab=x<eos>", "<bos>c=x<eos>"]
    assert prompted.teacher.log_p.argmax(-1).tolist() == [ord("x"), EOS] * 2
    assert anchor_set(Parrot(EOS), TOKENIZER, plain, 1).teacher.ids[:, 0].tolist() == [ord("y"), EOS] * 2
