"""Texts follow a model's own generation settings, in slots or by its own `generate`."""

from __future__ import annotations

import pytest
import torch
from transformers import MambaConfig, MambaForCausalLM

from components.shared.generation import texts
from components.shared.generation.requests import Decoding
from components.shared.generation.settings import decoding_of, unknown_settings
from components.shared.generation.texts import alone, continue_texts
from components.shared.models.loading import load
from tests import shapes

HOW = {"stops": (2,), "sample": False, "seed": 0, "padding": 0}


@pytest.fixture
def llama(tmp_path):
    return load(shapes.make("llama", tmp_path))[0]


def test_slots_and_the_models_own_generate_write_the_same(llama, monkeypatch):
    prompts, limits = [[5, 6, 7], [8] * 12, [9]], [6, 3, 9]
    for penalty in (None, 1.5):
        llama.generation_config.repetition_penalty = penalty
        by_itself = [
            alone(llama, prompt, limit, **HOW) for prompt, limit in zip(prompts, limits, strict=True)
        ]
        monkeypatch.setattr(texts, "alone", None)  # is not asked
        assert continue_texts(llama, prompts, limits, **HOW) == by_itself
        monkeypatch.undo()


def test_settings_that_slots_do_not_know_go_through_the_models_own_generate(llama):
    llama.generation_config.no_repeat_ngram_size = 1
    assert unknown_settings(llama) == ["no_repeat_ngram_size"]
    [text] = continue_texts(llama, [[5, 6, 7]], [12], **HOW)
    assert len(set(text)) == len(text)
    llama.generation_config.num_beams = 3
    assert "num_beams" in unknown_settings(llama)


def test_a_model_whose_state_is_not_keys_and_values_writes_one_text_after_another():
    torch.manual_seed(0)
    model = MambaForCausalLM(
        MambaConfig(vocab_size=64, hidden_size=16, num_hidden_layers=1, state_size=4)
    ).eval()
    assert [len(text) for text in continue_texts(model, [[5], [6, 7]], [3, 2], **(HOW | {"stops": ()}))] == [
        3,
        2,
    ]


def test_draws_are_as_the_models_settings_say(llama):
    settings = llama.generation_config
    settings.temperature, settings.top_k, settings.top_p, settings.repetition_penalty = 0.7, 20, 0.8, 1.1
    assert decoding_of(llama, sample=True) == Decoding(0.7, 20, 0.8, 1.1)
    assert decoding_of(llama, sample=False) == Decoding(repetition_penalty=1.1)
    assert continue_texts(llama, [[5, 6]], [8], **(HOW | {"sample": True})) == continue_texts(
        llama, [[5, 6]], [8], **(HOW | {"sample": True})
    )
