"""Parallel thoughts of foreign models are the same words in a text, whatever their layers attend to."""

from __future__ import annotations

import pytest
import torch

from components.shared.models.loading import load, wrap
from components.shared.models.remote_code.thoughts import (
    TalkHead,
    continue_thoughts,
    enclose,
    encode_text,
    fork,
    generate_with_thoughts,
    sample_thoughts,
    slides,
)
from tests import shapes

START, END = 5, 6


@pytest.mark.parametrize("family", ["gpt2", "llama", "mistral", "gemma2", "gpt_oss"])
def test_a_thought_is_read_as_the_same_words_in_a_text(family, tmp_path):
    """The text is longer than the window of those that have one (16)."""
    model, _ = load(shapes.make(family, tmp_path))
    ids = torch.randint(7, 250, (2, 24), generator=torch.Generator().manual_seed(0))
    positions = torch.tensor([[3, 19, 23], [20, 8, 23]])
    with torch.no_grad():
        text = encode_text(model, ids)
        thoughts = sample_thoughts(model, text, positions, length=3, start=START, end=END, temperature=0.0)
        tokens, padding = enclose(thoughts, START, END)
        hidden = continue_thoughts(model, text, fork(text.cache), positions, tokens, padding)[:, -1]
        for row in range(2):
            for slot in range(3):
                thought = [token for token in thoughts[row, slot].tolist() if token != END]
                words = [*ids[row, : positions[row, slot] + 1].tolist(), START, *thought, END]
                plain = model(input_ids=torch.tensor([words]), output_hidden_states=True, use_cache=False)
                torch.testing.assert_close(
                    hidden[row, slot], plain.hidden_states[-1][0, -1], rtol=1e-3, atol=1e-3
                )


@pytest.mark.parametrize("family", ["mistral", "gemma2"])
def test_texts_of_sliding_windows_go_on_with_thoughts_as_each_alone(family, tmp_path):
    model = wrap(load(shapes.make(family, tmp_path))[0])
    torch.manual_seed(0)
    model.talk_head = TalkHead(64)
    torch.nn.init.normal_(model.talk_head.outward.weight, std=0.1)
    model.config.thoughts = {"length": 2, "start": START, "end": END, "mixing": True}
    ids = torch.randint(7, 250, (2, 20), generator=torch.Generator().manual_seed(1))
    mask = torch.tensor([[1] * 20, [0] * 7 + [1] * 13])
    together = generate_with_thoughts(model, ids, mask, limit=4, stops=())
    assert together[0].tolist() == generate_with_thoughts(model, ids[:1], limit=4, stops=())[0].tolist()
    assert together[1].tolist() == generate_with_thoughts(model, ids[1:, 7:], limit=4, stops=())[0].tolist()


def test_layers_that_keep_another_state_are_refused_by_name(tmp_path):
    model, _ = load(shapes.make("llama", tmp_path))
    model.config.layer_types = ["linear_attention", "full_attention"]
    with pytest.raises(ValueError, match="of the kind linear_attention"):
        slides(model)
