"""A model on trial: what it wears, what that does to it, and that it takes it off again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from components.compression.allocation.evaluator import Trial, codable, retention, weight_of
from components.compression.allocation.mapped import tensor_in
from components.shared.evaluation.suites import suite_items
from components.shared.models.encoders import encode_ternary, stored
from components.shared.models.loading import build
from components.shared.models.remote_code.coded import install
from components.shared.models.remote_code.configuration_cognate import CognateConfig
from components.shared.tasks.tokenizer import byte_tokenizer

ITEMS = suite_items("efficiency", split="search", items=12, seed=0)
PLAIN, CODED = "model.layers.0.mlp.up_proj", "model.layers.0.mlp.gate_proj"


@pytest.fixture
def trial() -> Trial:
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = build(CognateConfig(**shape), seed=0).eval().requires_grad_(False)
    w = model.get_submodule(CODED).weight
    install(model, CODED, *stored("ternary", encode_ternary(w), w.shape))
    return Trial(model, byte_tokenizer(), 64)


@pytest.mark.parametrize("path", [PLAIN, CODED])
def test_weights_are_worn_inside_the_block_and_the_models_own_are_back_after_it(
    trial: Trial, path: str
) -> None:
    own, loss = weight_of(trial.model.get_submodule(path)).copy(), trial.loss(ITEMS)
    with (
        pytest.raises(RuntimeError, match="on purpose"),
        trial.wearing({path: np.zeros((48, 32), np.float32)}),
    ):
        assert not weight_of(trial.model.get_submodule(path)).any() and trial.loss(ITEMS) != loss
        raise RuntimeError("on purpose")
    assert np.array_equal(weight_of(trial.model.get_submodule(path)), own) and trial.loss(ITEMS) == loss


def test_weights_worn_from_a_file_do_what_the_same_weights_do_in_memory(trial: Trial, tmp_path: Path) -> None:
    weights = {}
    for path in (PLAIN, CODED):
        own = weight_of(trial.model.get_submodule(path))
        weights[path] = own + np.random.default_rng(1).normal(size=own.shape).astype(np.float32) * 0.1
        np.save(tmp_path / f"{path}.npy", weights[path])
    losses = []
    for worn in (weights, {path: tensor_in(tmp_path / f"{path}.npy") for path in weights}):
        with trial.wearing(worn):
            losses.append(trial.loss(ITEMS))
    assert losses[0] == losses[1] != trial.loss(ITEMS)


def harms(trial: Trial, path: str) -> list[float]:
    """Of no error, of a small one, and of one twice as large, in the weight at `path`."""
    reference = trial.reference(ITEMS)
    own = weight_of(trial.model.get_submodule(path))
    error = np.random.default_rng(0).normal(size=own.shape).astype(np.float32) * 0.02
    found = []
    for size in (0.0, 1.0, 2.0):
        with trial.wearing({path: own + size * error}):
            found.append(trial.harm(reference))
    return found


def test_harm_is_zero_for_the_model_itself_and_quadratic_in_small_errors(trial: Trial) -> None:
    nothing, small, large = harms(trial, PLAIN)
    assert nothing == pytest.approx(0.0, abs=1e-7) and large / small == pytest.approx(4.0, rel=0.1)


def test_harm_to_what_only_thoughts_use_is_seen() -> None:
    thoughts = {"length": 2, "start": 259, "end": 260, "mixing": True}
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = build(CognateConfig(**shape, thoughts=thoughts), seed=0).eval().requires_grad_(False)
    torch.nn.init.normal_(model.talk_head.outward.weight)
    nothing, small, large = harms(Trial(model, byte_tokenizer(), 64), "talk_head.inward")
    assert nothing == pytest.approx(0.0, abs=1e-7) and 0 < small < large


def test_matrices_of_some_size_and_all_coded_layers_are_codable(trial: Trial) -> None:
    assert {"model.embed_tokens", PLAIN, CODED} <= set(codable(trial.model, 1024))
    assert set(codable(trial.model, 1 << 30)) == {CODED}


def test_retention_is_one_for_the_same_loss_and_zero_for_a_uniform_guess(trial: Trial) -> None:
    uniform = trial.uniform_loss()
    assert uniform == pytest.approx(np.log(272)) and retention(uniform, 1.0, 1.0) == 1.0
    assert retention(uniform, 1.0, uniform) == 0.0 and torch.is_grad_enabled()
