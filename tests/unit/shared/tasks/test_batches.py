"""Mixtures and their encoding."""

from __future__ import annotations

import sys
from collections import Counter

import pytest
import torch

from components.shared.models.loading import load_tokenizer, save_tokenizer
from components.shared.runtime.errors import ConfigError, InputError
from components.shared.tasks.batches import IGNORED, check_mixture, encode, mixture
from components.shared.tasks.item import Item
from components.shared.tasks.tokenizer import CHAT_TEMPLATE, VOCAB_SIZE, byte_tokenizer

WEIGHTS = {"chain": 3.0, "reverse": 1.0}


@pytest.fixture(scope="module")
def tokenizer():
    return byte_tokenizer()


def item(prompt="ab=", answer="ba", **fields):
    return Item("reverse", 1, "train", prompt, answer, **fields)


def test_a_byte_is_its_own_id_and_text_comes_back(tokenizer):
    text = "aé\x00\n<think>ü</think>"
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert ids[:3] == [97, *"é".encode()]
    assert ids[5] == 259 and ids[-1] == 260
    assert tokenizer.decode(ids) == text
    assert len(tokenizer) == VOCAB_SIZE == 272
    assert (tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id) == (256, 257, 258)


def test_the_same_seed_and_step_give_the_same_items_and_another_step_others():
    drawn = mixture(WEIGHTS, (1, 2), "train", 3, 10, 32)
    assert drawn == mixture(WEIGHTS, (1, 2), "train", 3, 10, 32)
    assert drawn != mixture(WEIGHTS, (1, 2), "train", 3, 11, 32)
    assert drawn != mixture(WEIGHTS, (1, 2), "train", 4, 10, 32)


def test_tasks_and_levels_come_in_their_proportions():
    drawn = mixture(WEIGHTS, {"chain": [1, 1, 4], "reverse": [2]}, "train", 0, 0, 3000)
    tasks = Counter(each.task for each in drawn)
    levels = Counter(each.level for each in drawn if each.task == "chain")
    assert tasks["chain"] / 3000 == pytest.approx(0.75, abs=0.03)
    assert levels[1] / levels[4] == pytest.approx(2, rel=0.15)
    assert {each.level for each in drawn if each.task == "reverse"} == {2}


def test_worked_steps_are_shown_in_the_asked_share():
    drawn = mixture({"chain": 1.0}, (3,), "train", 0, 0, 2000, scratch=0.3)
    assert sum(bool(each.scratch) for each in drawn) / 2000 == pytest.approx(0.3, abs=0.04)
    assert not any(each.scratch for each in mixture({"chain": 1.0}, (3,), "train", 0, 0, 50))


def test_only_the_answer_and_eos_are_learnt(tokenizer):
    batch = encode([item(), item("abcd=", "dcba", system="now: ")], tokenizer)
    assert batch.input_ids.dtype == batch.labels.dtype == torch.int64
    rows = [
        [257, *b"ab=", *b"ba", 258],
        [257, *b"now: abcd=", *b"dcba", 258],
    ]
    for row, ids, mask in zip(rows, batch.input_ids, batch.attention_mask, strict=True):
        assert ids.tolist() == row + [256] * (len(ids) - len(row))
        assert mask.tolist() == [1] * len(row) + [0] * (len(ids) - len(row))
    assert [label for label in batch.labels[0].tolist() if label != IGNORED] == [*b"ba", 258]
    assert [label for label in batch.labels[1].tolist() if label != IGNORED] == [*b"dcba", 258]


def test_scratch_is_learnt_but_the_decision_to_think_is_not(tokenizer):
    batch = encode([item(scratch="b,a")], tokenizer)
    assert batch.input_ids[0].tolist() == [257, *b"ab=", 259, *b"b,a", 260, *b"ba", 258]
    assert [label for label in batch.labels[0].tolist() if label != IGNORED] == [*b"b,a", 260, *b"ba", 258]


def test_a_prompt_is_learnt_too_when_asked(tokenizer):
    labels = encode([item()], tokenizer, learn_prompt=True).labels[0].tolist()
    assert labels == [IGNORED, *b"ab=", *b"ba", 258]


def test_a_tokenizer_without_bos_and_pad_still_encodes_and_one_without_eos_is_refused():
    plain = byte_tokenizer()
    plain.bos_token = plain.pad_token = None
    batch = encode([item(), item("abc=", "cba")], plain)
    assert batch.input_ids[0].tolist() == [*b"ab=ba", 258, 258, 258]
    assert batch.labels[0].tolist()[-2:] == [IGNORED, IGNORED]
    plain.eos_token = None
    with pytest.raises(InputError, match="<eos>"):
        encode([item()], plain)


@pytest.mark.parametrize("weights", [{}, {"chain": 0.0}, {"chain": -1.0, "max": 2.0}])
def test_a_mixture_of_nothing_is_refused(weights):
    with pytest.raises(ConfigError, match="weights"):
        mixture(weights, (1,), "train", 0, 0, 4)


def test_a_wrong_mixture_is_found_before_training():
    check_mixture(WEIGHTS, (1, 2))
    with pytest.raises(ConfigError, match="no task"):
        check_mixture({"chian": 1.0}, (1,))
    with pytest.raises(ConfigError, match="no levels for task 'reverse'"):
        check_mixture(WEIGHTS, {"chain": [1]})


def test_a_batch_costs_a_few_calls_an_item_however_large_it_is(tokenizer):
    """Calls and not seconds: 64 items take 2.5 ms on an idle core, and a machine may be of any speed."""
    weights = {"chain": 1.0, "recall": 1.0, "sort": 1.0, "cloze": 1.0, "request": 1.0, "tool": 1.0}

    def calls_an_item(count):
        calls = 0

        def seen(frame, event, argument):
            nonlocal calls
            calls += event in ("call", "c_call")

        sys.setprofile(seen)
        try:
            encode(mixture(weights, (1, 2), "train", 0, 1, count), tokenizer)
        finally:
            sys.setprofile(None)
        return calls / count

    calls_an_item(64)  # what is made once and kept
    assert calls_an_item(64) < 300 and calls_an_item(512) < 300  # 150 and 140


def test_the_chat_template_gives_turns_the_form_of_rows_in_training(tmp_path):
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = CHAT_TEMPLATE
    save_tokenizer(tokenizer, tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    turns = [{"role": "system", "content": "be brief: "}, {"role": "user", "content": "ab="}]
    row = encode([item(system="be brief: ")], tokenizer).input_ids[0].tolist()
    answer = {"role": "assistant", "content": "ba"}

    def ids(messages, **how):
        return tokenizer.apply_chat_template(messages, return_dict=True, **how)["input_ids"]

    assert ids(turns, add_generation_prompt=True) == row[:-3]
    assert ids([*turns, answer]) == row and ids([*turns, answer, *turns]) == row + row[:-3]
    assert ids([*turns, answer], continue_final_message=True) == row[:-1]
