"""Dreams: the model's own answers, replayed beside real items; only the answers are learnt."""

from __future__ import annotations

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from components.shared.tasks.batches import IGNORED
from components.shared.tasks.item import Item
from components.shared.tasks.tokenizer import byte_tokenizer
from components.training.dreaming import LONGEST, dream, replay

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
    batch = replay([[[257, 1, 2], [3, 4, 258]], [[257, 5], [6]]], TOKENIZER.pad_token_id)
    assert batch.input_ids.tolist() == [[257, 1, 2, 3, 4, 258], [257, 5, 6, 256, 256, 256]]
    assert batch.labels[0].tolist() == [IGNORED] * 3 + [3, 4, 258]
    assert batch.labels[1].tolist() == [IGNORED] * 2 + [6] + [IGNORED] * 3
    assert batch.attention_mask.sum(-1).tolist() == [6, 3]


def test_the_loss_of_a_dream_is_that_of_its_answer_given_its_prompt():
    network, (prompt, answer) = model(), dreamt()[0]
    row = replay([[prompt, answer]], TOKENIZER.pad_token_id)
    with torch.no_grad():
        loss = network(input_ids=row.input_ids, labels=row.labels).loss
        scores = network(input_ids=torch.tensor([prompt + answer])).logits[0].log_softmax(-1)
    by_hand = [scores[len(prompt) - 1 + place, token] for place, token in enumerate(answer)]
    torch.testing.assert_close(loss, -torch.stack(by_hand).mean())
