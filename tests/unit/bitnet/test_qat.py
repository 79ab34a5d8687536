"""Distillation against hand computation, the warm-up of the quantisation, and that training through it learns."""

import math

import pytest
import torch

from components.bitnet.conversion import convert, linears_to_convert, root_mean_squares
from components.bitnet.placement import unnormed
from components.bitnet.qat import answer_and_kl, distillation_losses, strength_at, train
from components.shared.evaluation.answers import batches, loss
from components.shared.models.remote_code.ternary import BitLinear
from components.shared.optim.optimizer import build_optimizer
from components.shared.runtime.checkpoint.checkpoints import Checkpoints
from components.shared.runtime.errors import PhaseFailed
from components.shared.tasks.batches import Batch, encode, mixture
from components.shared.tasks.tokenizer import byte_tokenizer
from components.shared.training.paged import paged

from .networks import cognate, llama


def test_the_distillation_loss_is_the_kl_computed_by_hand():
    """teacher (.5, .5), student (.8, .2): ½ ln(.5/.8) + ½ ln(.5/.2)."""
    student, teacher = torch.tensor([[0.8, 0.2]]).log(), torch.zeros(1, 2)
    expected = 0.5 * math.log(0.5 / 0.8) + 0.5 * math.log(0.5 / 0.2)
    assert distillation_losses(student, teacher, 1.0).mean().item() == pytest.approx(expected, rel=1e-6)


def test_at_temperature_two_it_is_four_times_the_kl_of_the_softened_distributions():
    """Logits (ln 9, 0) at T = 2 are probabilities (¾, ¼); against even ones: −½ ln(¾·4·¼) = ½ ln(4/3)."""
    student, teacher = torch.tensor([[math.log(9.0), 0.0]]), torch.zeros(1, 2)
    assert distillation_losses(student, teacher, 2.0).mean().item() == pytest.approx(
        4 * 0.5 * math.log(4 / 3), rel=1e-6
    )


def test_it_is_a_mean_over_rows_and_zero_for_the_same_logits():
    same, other = torch.randn(1, 5), torch.randn(1, 5)
    assert distillation_losses(same, same, 1.0).mean().item() == pytest.approx(0.0, abs=1e-7)
    both = distillation_losses(torch.cat([same, other]), same.expand(2, -1), 1.0).mean()
    assert both.item() == pytest.approx(distillation_losses(other, same, 1.0).mean().item() / 2, rel=1e-5)


def test_the_quantisation_is_faded_in_linearly_and_then_stays():
    assert [strength_at(step, 4) for step in range(6)] == [0.2, 0.4, 0.6, 0.8, 1.0, 1.0]
    assert strength_at(0, 0) == 1.0


def test_losses_of_rows_of_like_length_add_up_to_that_of_the_whole_batch():
    """Weighted by their learnt tokens, as training weights them."""
    student, teacher, tokenizer = cognate(), cognate(tie_word_embeddings=False), byte_tokenizer()
    items = mixture({"copy": 1, "sort": 1}, [1, 4], "train", 0, 0, 12)
    parts = [batch for _, batch in batches(items, tokenizer, 4)]
    shares = [(batch.labels[:, 1:] != -100).sum() for batch in parts]
    whole = answer_and_kl(student, teacher, encode(items, tokenizer), 1.0)
    each = [answer_and_kl(student, teacher, batch, 1.0) for batch in parts]
    for index, expected in enumerate(whole):
        total = sum(share * part[index] for share, part in zip(shares, each, strict=True)) / sum(shares)
        torch.testing.assert_close(total, expected)


def test_a_document_of_a_packed_row_is_learnt_as_if_it_stood_alone():
    student, teacher = llama(), llama(rope_theta=50.0)
    ids = torch.randint(0, 256, (1, 24), generator=torch.Generator().manual_seed(0))
    documents = torch.tensor([[1] * 10 + [2] * 14])
    labels = ids.masked_fill(torch.isin(torch.arange(24), torch.tensor([0, 10])), -100)
    packed = answer_and_kl(student, teacher, Batch(ids, labels, documents), 1.0)
    pieces = [
        Batch(*(each[:, part] for each in (ids, labels, documents.sign())))
        for part in (slice(10), slice(10, 24))
    ]
    alone = [answer_and_kl(student, teacher, piece, 1.0) for piece in pieces]
    for found, first, second in zip(packed, *alone, strict=True):
        torch.testing.assert_close(found, (9 * first + 13 * second) / 22)


def ternary():
    model = cognate(tie_word_embeddings=False)
    items = mixture({"copy": 1.0}, [1], "train", 0, 10**6, 16)
    calibration = [{"input_ids": encode(items, byte_tokenizer()).input_ids}]
    convert(model, root_mean_squares(model, unnormed(model, linears_to_convert(model)), calibration))
    return model


def draw(step):
    items = mixture({"copy": 1.0}, [1], "train", 0, step, 16)
    return [batch for _, batch in batches(items, byte_tokenizer(), 8)]


def trained(tmp_path, steps, *, teacher=None, lr=0.01, clip=1.0, strength_warmup=0):
    model, reported = ternary(), []
    curve = train(
        model,
        teacher,
        build_optimizer(model, "muon", lr),
        draw,
        steps=steps,
        warmup=2,
        strength_warmup=strength_warmup,
        distillation=1.0,
        temperature=1.0,
        clip=clip,
        checkpoints=Checkpoints(str(tmp_path), "0" * 16),
        report=lambda step, metrics: reported.append(step),
    )
    assert reported == list(range(1, steps + 1))
    return model, curve


def test_a_ternary_network_learns_through_its_quantisation(tmp_path):
    items = mixture({"copy": 1.0}, [1], "search", 0, 0, 64)
    before = loss(ternary(), byte_tokenizer(), items)
    model, curve = trained(tmp_path, steps=60)
    assert loss(model, byte_tokenizer(), items) < before / 2
    assert curve["step"] == list(range(1, 61)) and curve["loss"][-1] < curve["loss"][0] / 2


def test_after_training_every_layer_is_ternary_at_full_strength_whatever_its_warm_up(tmp_path):
    model, _ = trained(tmp_path, steps=3, strength_warmup=100)
    layers = [module for module in model.modules() if isinstance(module, BitLinear)]
    assert layers and all(layer.strength == 1.0 for layer in layers) and not model.training


def test_it_learns_the_same_from_a_teacher_whose_weights_lie_in_a_file(tmp_path, monkeypatch):
    monkeypatch.setattr("components.shared.training.paged.SMALL", 0)
    teacher = cognate(tie_word_embeddings=False).requires_grad_(False)
    from_memory, _ = trained(tmp_path / "memory", steps=2, teacher=teacher)
    with paged(teacher, tmp_path, least=0):
        from_file, _ = trained(tmp_path / "file", steps=2, teacher=teacher)
    for expected, found in zip(from_memory.parameters(), from_file.parameters(), strict=True):
        assert torch.equal(found, expected)


def test_weights_that_overflow_stop_training_and_say_what_to_lower(tmp_path):
    with pytest.raises(PhaseFailed, match=r"at step \d+.*bitnet.*lower bitnet\.lr"):
        trained(tmp_path, steps=30, lr=1e30, clip=1e30)
