"""A model under evaluation: the weights that it is given, what they do to it, and that it has its own again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from components.compression.allocation.evaluator import Evaluator, codable, retention
from components.compression.allocation.mapped import tensor_in
from components.shared.evaluation.suites import suite_items
from components.shared.models.encoders import encode_ternary, stored
from components.shared.models.loading import build
from components.shared.models.remote_code.coded import install
from components.shared.models.remote_code.configuration_cognate import CognateConfig
from components.shared.tasks.tokenizer import byte_tokenizer
from tests.unit.compression.weights import weight_of

ITEMS = suite_items("efficiency", split="search", items=12, seed=0)
PLAIN, CODED = "model.layers.0.mlp.up_proj", "model.layers.0.mlp.gate_proj"


@pytest.fixture
def evaluator() -> Evaluator:
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = build(CognateConfig(**shape), seed=0).eval().requires_grad_(False)
    w = model.get_submodule(CODED).weight
    install(model, CODED, *stored("ternary", encode_ternary(w), w.shape))
    return Evaluator(model, byte_tokenizer(), 64)


@pytest.mark.parametrize("path", [PLAIN, CODED])
def test_weights_are_in_place_inside_the_block_and_the_models_own_are_back_after_it(
    evaluator: Evaluator, path: str
) -> None:
    own, loss = weight_of(evaluator.model.get_submodule(path)).copy(), evaluator.loss(ITEMS)
    with (
        pytest.raises(RuntimeError, match="on purpose"),
        evaluator.with_weights({path: np.zeros((48, 32), np.float32)}),
    ):
        assert not weight_of(evaluator.model.get_submodule(path)).any() and evaluator.loss(ITEMS) != loss
        raise RuntimeError("on purpose")
    assert (
        np.array_equal(weight_of(evaluator.model.get_submodule(path)), own) and evaluator.loss(ITEMS) == loss
    )


def test_weights_mapped_from_a_file_do_what_the_same_weights_do_in_memory(
    evaluator: Evaluator, tmp_path: Path
) -> None:
    weights = {}
    for path in (PLAIN, CODED):
        own = weight_of(evaluator.model.get_submodule(path))
        weights[path] = own + np.random.default_rng(1).normal(size=own.shape).astype(np.float32) * 0.1
        np.save(tmp_path / f"{path}.npy", weights[path])
    losses = []
    for replaced in (weights, {path: tensor_in(tmp_path / f"{path}.npy") for path in weights}):
        with evaluator.with_weights(replaced):
            losses.append(evaluator.loss(ITEMS))
    assert losses[0] == losses[1] != evaluator.loss(ITEMS)


def kl_increases(evaluator: Evaluator, path: str) -> list[float]:
    """Of no error, of a small one, and of one twice as large, in the weight at `path`."""
    reference = evaluator.reference(ITEMS)
    own = weight_of(evaluator.model.get_submodule(path))
    error = np.random.default_rng(0).normal(size=own.shape).astype(np.float32) * 0.02
    increases = []
    for size in (0.0, 1.0, 2.0):
        with evaluator.with_weights({path: own + size * error}):
            increases.append(evaluator.kl_increase(reference))
    return increases


def test_the_kl_increase_is_zero_for_the_model_itself_and_quadratic_in_small_errors(
    evaluator: Evaluator,
) -> None:
    nothing, small, large = kl_increases(evaluator, PLAIN)
    assert nothing == pytest.approx(0.0, abs=1e-7) and large / small == pytest.approx(4.0, rel=0.1)


def test_damage_to_what_only_thoughts_use_is_seen() -> None:
    thoughts = {"length": 2, "start": 259, "end": 260, "mixing": True}
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = build(CognateConfig(**shape, thoughts=thoughts), seed=0).eval().requires_grad_(False)
    torch.nn.init.normal_(model.talk_head.outward.weight)
    nothing, small, large = kl_increases(Evaluator(model, byte_tokenizer(), 64), "talk_head.inward")
    assert nothing == pytest.approx(0.0, abs=1e-7) and 0 < small < large


def test_matrices_of_some_size_and_all_coded_layers_are_codable(evaluator: Evaluator) -> None:
    assert {"model.embed_tokens", PLAIN, CODED} <= set(codable(evaluator.model, 1024))
    assert set(codable(evaluator.model, 1 << 30)) == {CODED}


def test_retention_is_one_for_the_same_loss_and_zero_for_a_uniform_guess(evaluator: Evaluator) -> None:
    uniform = evaluator.uniform_loss()
    assert uniform == pytest.approx(np.log(272)) and retention(uniform, 1.0, 1.0) == 1.0
    assert retention(uniform, 1.0, uniform) == 0.0 and torch.is_grad_enabled()
