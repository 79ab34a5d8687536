"""A packed document costs what it costs alone, in every family, and none sees another."""

import pytest
import torch
from transformers import AutoModelForCausalLM

from components.shared.models.build import build
from components.shared.models.remote_code.configuration_cognate import CognateConfig
from components.shared.tasks.batches import IGNORED, Batch
from components.shared.training.head import next_token_loss
from components.shared.training.packed import apart, is_packed, mask_of, positions_of
from tests.shapes import FAMILIES, config

SHAPE = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
LENGTHS = ((5, 21, 2), (28,), (1, 1, 20))
WIDTH = 28


def packed(seed=0):
    """Rows of documents of these lengths, and the documents alone."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.zeros(len(LENGTHS), WIDTH, dtype=torch.long)
    labels, documents, alone = torch.full_like(ids, IGNORED), torch.zeros_like(ids), []
    for row, lengths in enumerate(LENGTHS):
        at = 0
        for number, length in enumerate(lengths, 1):
            tokens = torch.randint(0, 256, (length,), generator=generator)
            here = slice(at, at + length)
            ids[row, here], labels[row, here], documents[row, here] = tokens, tokens, number
            labels[row, at] = IGNORED
            alone.append(Batch(tokens[None], tokens[None], torch.ones_like(tokens)[None]))
            at += length
    return Batch(ids, labels, documents), alone


def models():
    for modules in ({}, {"refinement": True}, {"memory": True}):
        yield (
            "-".join(["cognate", *modules]),
            lambda modules=modules: build(
                CognateConfig(**SHAPE, memory_size=16, memory_chunk=4, refinement_size=32, **modules), seed=0
            ),
        )
    for family in (*FAMILIES, "gemma2"):
        yield family, lambda family=family: AutoModelForCausalLM.from_config(config(family))


@pytest.mark.parametrize("make", [pytest.param(make, id=name) for name, make in models()])
def test_the_loss_of_packed_documents_is_that_of_each_alone(make):
    torch.manual_seed(0)
    model = make().eval()
    for name, parameter in model.named_parameters():
        if "gate" in name and "proj" not in name:
            torch.nn.init.constant_(parameter, 0.5)  # modules that begin closed are opened
    batch, alone = packed()
    counts = torch.tensor([float(len(each.input_ids[0]) - 1) for each in alone])
    model.train(
        model.config.model_type == "cognate"
    )  # whose loss in training weighs steps; others have dropout
    losses = torch.stack([next_token_loss(model, each) for each in alone])
    expected = (losses * counts).sum() / counts.sum()
    loss = next_token_loss(model, batch)
    torch.testing.assert_close(loss, expected, rtol=2e-5, atol=1e-6)
    gradients = [
        torch.autograd.grad(each, list(model.parameters()), allow_unused=True) for each in (loss, expected)
    ]
    for ours, theirs in zip(*gradients, strict=True):
        if theirs is not None and ours is not None:
            torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)


def test_a_token_attends_to_its_own_document_up_to_itself():
    documents = torch.tensor([[1, 1, 2, 2, 0]])
    assert mask_of(documents)[0, 0].int().tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [0, 0, 1, 0, 0],
        [0, 0, 1, 1, 0],
        [0, 0, 0, 0, 1],
    ]
    assert positions_of(documents).tolist() == [[0, 1, 0, 1, 0]]


def test_documents_apart_are_rows_of_their_own():
    batch, alone = packed()
    assert is_packed(batch)
    rows = apart(batch)
    assert not is_packed(rows)
    assert len(rows.input_ids) == len(alone)
    for row, each in enumerate(alone):
        length = each.input_ids.shape[1]
        assert rows.input_ids[row, :length].tolist() == each.input_ids[0].tolist()
        assert rows.labels[row, 1:length].tolist() == each.labels[0, 1:].tolist()
        assert rows.attention_mask[row].tolist() == [1] * length + [0] * (rows.input_ids.shape[1] - length)
