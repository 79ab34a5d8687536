"""Dreams: the model's own answers, replayed beside real items; only the answers are learnt."""

from __future__ import annotations

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from components.shared.tasks.batches import IGNORED, Batch, encode
from components.shared.tasks.item import Item
from components.shared.tasks.tokenizer import byte_tokenizer
from components.training.dreaming import LONGEST, dream, with_dreams

TOKENIZER = byte_tokenizer()
ITEMS = [Item("chain", 1, "train", prompt, "0") for prompt in ("47+3=", "12-2=", "5=")]


def model():
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=272, **shape)).eval()


def dreamt(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return dream(model(), TOKENIZER, ITEMS, temperature=1.0, generator=generator)


def test_a_dream_is_the_prompt_and_what_the_model_says_to_it():
    for item, (prompt, answer) in zip(ITEMS, dreamt(), strict=True):
        assert TOKENIZER.decode(prompt) == f"<bos>{item.prompt}"
        assert 1 <= len(answer) <= LONGEST
        assert TOKENIZER.eos_token_id not in answer[:-1]


def test_dreams_are_a_function_of_their_generator():
    assert dreamt() == dreamt() and dreamt() != dreamt(seed=1)


def test_dreamt_rows_learn_their_answers_and_nothing_else():
    real = encode(ITEMS[:1], TOKENIZER)
    batch = with_dreams(real, [[[257, 1, 2], [3, 4, 258]], [[257, 5], [6]]], TOKENIZER.pad_token_id)
    width = real.input_ids.shape[1]
    assert torch.equal(batch.input_ids[0], real.input_ids[0]) and torch.equal(batch.labels[0], real.labels[0])
    assert batch.input_ids[1:].tolist() == [
        [257, 1, 2, 3, 4, 258] + [256] * (width - 6),
        [257, 5, 6] + [256] * (width - 3),
    ]
    assert batch.labels[1].tolist() == [IGNORED] * 3 + [3, 4, 258] + [IGNORED] * (width - 6)
    assert batch.labels[2].tolist() == [IGNORED] * 2 + [6] + [IGNORED] * (width - 3)
    assert batch.attention_mask.sum(-1).tolist() == [width, 6, 3]


def test_a_dream_longer_than_the_real_rows_widens_them():
    real = encode(ITEMS[2:], TOKENIZER)
    batch = with_dreams(real, [[[257] + [1] * 10, [2] * 10]], TOKENIZER.pad_token_id)
    width = real.input_ids.shape[1]
    assert batch.input_ids.shape == (2, 21)
    assert torch.equal(batch.labels[0, :width], real.labels[0])
    assert set(batch.labels[0, width:].tolist()) == {IGNORED}
    assert not batch.attention_mask[0, width:].any()


def test_the_loss_of_a_dream_is_that_of_its_answer_given_its_prompt():
    network, (prompt, answer) = model(), dreamt()[0]
    real = encode(ITEMS[:1], TOKENIZER)
    mixed = with_dreams(real, [[prompt, answer]], TOKENIZER.pad_token_id)
    row = Batch(*(tensor[1:] for tensor in mixed))
    with torch.no_grad():
        loss = network(input_ids=row.input_ids, labels=row.labels).loss
        scores = network(input_ids=torch.tensor([prompt + answer])).logits[0].log_softmax(-1)
    by_hand = [scores[len(prompt) - 1 + place, token] for place, token in enumerate(answer)]
    torch.testing.assert_close(loss, -torch.stack(by_hand).mean())
