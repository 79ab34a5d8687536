"""Losses from hidden states, chunk by chunk, against torch's from all logits at once."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from transformers import AutoConfig, AutoModelForCausalLM

from components.shared.models.build import build
from components.shared.models.loading import wrap
from components.shared.models.remote_code.configuration_cognate import CognateConfig
from components.shared.runtime.errors import InputError
from components.shared.tasks.batches import IGNORED, Batch
from components.shared.training.head import (
    chunked_cross_entropy,
    cross_entropies,
    head_of,
    hidden_states,
    labelled,
    next_token_loss,
    outcomes,
)

from .largest import Largest

VOCABULARY = 300
SMALL = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
KINDS: dict[str, dict[str, Any]] = {
    "llama": {},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 2},
    "gemma2": {"final_logit_softcapping": 0.5, "initializer_range": 0.5},
    "cohere": {"logit_scale": 0.0625},
    "granite": {"logits_scaling": 8.0},
    "mixtral": {"num_local_experts": 2},
}


def foreign(kind: str) -> Any:
    """A random model of transformers, in training without dropout."""
    torch.manual_seed(0)
    more = KINDS[kind]
    config = AutoConfig.for_model(kind, **(SMALL if kind != "gpt2" else {"vocab_size": VOCABULARY}) | more)
    for name in ("resid_pdrop", "embd_pdrop", "attn_pdrop"):
        if hasattr(config, name):
            setattr(config, name, 0.0)
    return AutoModelForCausalLM.from_config(config).float().train()


def cognate(**options: Any) -> Any:
    """A small random Cognate in training."""
    geometry = {"hidden_size": 32, "num_attention_heads": 2, "num_hidden_layers": 2, "intermediate_size": 48}
    return build(CognateConfig(vocab_size=VOCABULARY, **geometry, **options), seed=0).train()


def batch(rows: int = 3, width: int = 9) -> Batch:
    """Random rows, of which the later columns are learnt."""
    ids = torch.randint(3, VOCABULARY, (rows, width), generator=torch.Generator().manual_seed(0))
    labels = ids.clone()
    labels[:, : width // 2] = IGNORED
    labels[0, -2:] = IGNORED
    return Batch(ids, labels, torch.ones_like(ids))


def gradients(model: Any, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    """The gradient of each parameter that has one."""
    model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def test_a_chunked_loss_and_its_gradients_are_those_of_torch() -> None:
    model, rows = foreign("llama"), batch()
    own = model(input_ids=rows.input_ids, labels=rows.labels).loss
    expected = gradients(model, own)
    hidden = hidden_states(model, rows.input_ids)
    loss = chunked_cross_entropy(
        *_swap(labelled(hidden.last, rows.labels), hidden.head), chunk=3 * VOCABULARY
    )
    torch.testing.assert_close(loss, own, rtol=1e-6, atol=1e-6)
    found = gradients(model, loss)
    assert found.keys() == expected.keys()
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-5, atol=1e-6)


def _swap(pair: tuple[torch.Tensor, torch.Tensor], head: Any) -> tuple[Any, ...]:
    return pair[0], head, pair[1]


def test_every_kind_of_head_is_respected() -> None:
    rows = batch()
    for kind in KINDS:
        model = foreign(kind)
        own = model(input_ids=rows.input_ids, labels=rows.labels).loss
        torch.testing.assert_close(next_token_loss(model, rows), own, rtol=1e-6, atol=1e-6, msg=kind)
    for tied in (True, False):
        model = cognate(tie_word_embeddings=tied)
        own = model(input_ids=rows.input_ids, labels=rows.labels).loss
        torch.testing.assert_close(next_token_loss(model, rows), own, rtol=1e-6, atol=1e-6)
    wrapped = wrap(foreign("llama"))
    own = wrapped(input_ids=rows.input_ids, labels=rows.labels).loss
    torch.testing.assert_close(next_token_loss(wrapped, rows), own, rtol=1e-6, atol=1e-6)


def test_a_refinement_in_training_has_its_own_loss_and_at_inference_the_chosen_steps() -> None:
    model, rows = cognate(refinement=True), batch()
    with torch.no_grad():
        model.model.refinement.gate.fill_(0.5)
    for training in (True, False):
        model.train(training)
        own = model(input_ids=rows.input_ids, labels=rows.labels).loss
        torch.testing.assert_close(next_token_loss(model, rows), own, rtol=1e-6, atol=1e-6)


def test_a_loss_over_no_labels_is_zero_and_has_a_gradient() -> None:
    model, rows = foreign("llama"), batch()
    loss = next_token_loss(model, rows._replace(labels=torch.full_like(rows.labels, IGNORED)))
    assert loss == 0
    loss.backward()


def test_outcomes_are_likelihoods_and_whether_the_token_was_the_likeliest() -> None:
    model, rows = foreign("llama"), batch()
    hidden = hidden_states(model, rows.input_ids)
    states, targets = labelled(hidden.last, rows.labels)
    logits = hidden.head(states)
    targets = torch.where(torch.arange(len(targets)) % 2 == 0, logits.argmax(-1), targets)
    nll, right = outcomes(states, hidden.head, targets, chunk=4 * VOCABULARY)
    torch.testing.assert_close(nll, F.cross_entropy(logits, targets, reduction="none"))
    assert torch.equal(right, logits.argmax(-1) == targets)


def test_logits_behind_which_a_model_does_more_are_refused() -> None:
    class Doubling(torch.nn.Module):
        """Doubles the logits of a model."""

        def __init__(self, model: Any) -> None:
            super().__init__()
            self.module = model

        def forward(self, **inputs: Any) -> Any:
            out = self.module(**inputs)
            out.logits = out.logits * 2
            return out

    with pytest.raises(InputError, match="leave out"):
        hidden_states(Doubling(foreign("llama")), batch().input_ids)


def test_forward_and_backward_hold_a_chunk_of_logits_at_a_time() -> None:
    width, rows = 4000, 64
    layer = torch.nn.Linear(8, width, bias=False)
    model = foreign("llama")
    head = head_of(model)._replace(layer=layer, width=width)
    hidden = torch.randn(rows, 8, requires_grad=True)
    targets = torch.randint(width, (rows,))
    with Largest() as seen:
        cross_entropies(hidden, head, targets, chunk=4 * width).mean().backward()
    assert seen.elements <= 8 * width  # the weight's own gradient
    assert hidden.grad is not None and layer.weight.grad is not None
