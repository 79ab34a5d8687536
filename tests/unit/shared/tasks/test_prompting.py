"""One form of a question for training, evaluation, generation and the agent: the tokenizer's own."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from components.shared.runtime.errors import InputError
from components.shared.tasks.batches import IGNORED, encode
from components.shared.tasks.item import Item
from components.shared.tasks.prompting import (
    conversation_ids,
    end_id,
    has_chat_template,
    padding_id,
    prompt_ids,
    stop_ids,
    text_of,
    thought_ids,
    thought_words,
)
from components.shared.tasks.tokenizer import CHAT_TEMPLATE, byte_tokenizer

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
NO_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}" + CHATML
ITEM = Item("chain", 1, "train", "1+1=", "2", system="Count. ")
THOUGHT = Item("chain", 1, "train", "1+1=", "2", scratch="one more")


def chat_tokenizer(template=CHATML, words=("<|im_start|>", "<|im_end|>")):
    tokenizer = byte_tokenizer()
    tokenizer.add_special_tokens(
        {"additional_special_tokens": list(words)}, replace_extra_special_tokens=False
    )
    tokenizer.chat_template = template
    return tokenizer


def text(ids, tokenizer):
    return tokenizer.decode(ids, clean_up_tokenization_spaces=False)


def row(tokenizer, item, **how):
    batch = encode([item], tokenizer, **how)
    learnt = batch.input_ids[0][batch.labels[0] != IGNORED]
    return text(batch.input_ids[0].tolist(), tokenizer), text(learnt.tolist(), tokenizer)


def test_without_a_template_a_row_is_bare_behind_bos():
    tokenizer = byte_tokenizer()
    assert row(tokenizer, ITEM) == ("<bos>Count. 1+1=2<eos>", "2<eos>")
    assert row(tokenizer, THOUGHT) == (
        "<bos>1+1=<think>one more</think>2<eos>",
        "one more</think>2<eos>",
    )
    tokenizer.chat_template = CHAT_TEMPLATE  # the same rows, for programs that ask in turns
    assert not has_chat_template(tokenizer)
    assert row(tokenizer, ITEM) == ("<bos>Count. 1+1=2<eos>", "2<eos>")


def test_under_a_template_the_answer_ends_with_its_end_of_turn_and_thoughts_stand_in_the_turn_of_the_assistant():
    tokenizer = chat_tokenizer()
    head = "<|im_start|>system\nCount. <|im_end|>\n<|im_start|>user\n1+1=<|im_end|>\n<|im_start|>assistant\n"
    assert row(tokenizer, ITEM) == (head + "2<|im_end|>", "2<|im_end|>")
    whole, learnt = row(tokenizer, THOUGHT)
    assert whole.endswith("<|im_start|>assistant\n<think>one more</think>2<|im_end|>")
    assert learnt == "one more</think>2<|im_end|>"


def test_what_is_asked_is_where_the_row_in_training_begins_to_be_learnt():
    for tokenizer in (byte_tokenizer(), chat_tokenizer()):
        for item in (ITEM, THOUGHT):
            batch = encode([item], tokenizer)
            start = int((batch.labels[0] != IGNORED).nonzero()[0])
            asked = prompt_ids([item], tokenizer, thinking=bool(item.scratch))[0]
            assert batch.input_ids[0, :start].tolist() == asked


def test_a_template_that_refuses_system_messages_has_them_before_the_question():
    tokenizer = chat_tokenizer(NO_SYSTEM)
    assert text(prompt_ids([ITEM], tokenizer)[0], tokenizer).startswith(
        "<|im_start|>user\nCount. \n\n1+1=<|im_end|>"
    )


def test_a_template_that_begins_a_thought_by_itself_has_one_begun_or_none_open():
    tokenizer = chat_tokenizer(
        CHATML.replace("assistant\\n'", "assistant\\n<think>\\n'").replace(
            "assistant\n'", "assistant\n<think>\n'"
        )
    )
    asked, thinking = (
        text(prompt_ids([THOUGHT], tokenizer, thinking=thinks)[0], tokenizer) for thinks in (False, True)
    )
    assert asked.endswith("assistant\n<think></think>") and thinking.endswith("assistant\n<think>")


def test_a_template_that_can_be_told_not_to_think_is_told():
    tokenizer = chat_tokenizer(CHATML + "{% if enable_thinking is false %}at once{% endif %}")
    asked, thinking = (
        text(prompt_ids([THOUGHT], tokenizer, thinking=thinks)[0], tokenizer) for thinks in (False, True)
    )
    assert asked.endswith("at once") and thinking.endswith("assistant\n<think>")


def test_a_template_that_writes_the_date_writes_the_same_one_into_items_on_every_day():
    tokenizer = chat_tokenizer("{{ strftime_now('%s%f') }}" + CHATML)
    assert text(prompt_ids([ITEM], tokenizer)[0], tokenizer).startswith("26 Jul 2024<|im_start|>")
    asked = text(conversation_ids([{"role": "user", "content": "hi"}], tokenizer), tokenizer)
    assert "26 Jul 2024" not in asked


def test_a_conversation_goes_on_where_the_assistant_does():
    turns = [("user", "hi"), ("assistant", "ho"), ("user", "ha")]
    messages = [{"role": role, "content": content} for role, content in turns]
    tokenizer = chat_tokenizer()
    assert text(conversation_ids(messages, tokenizer), tokenizer).endswith(
        "<|im_start|>assistant\nho<|im_end|>\n<|im_start|>user\nha<|im_end|>\n<|im_start|>assistant\n"
    )


def test_everything_that_may_end_an_answer_stops_it():
    model = SimpleNamespace(generation_config=SimpleNamespace(eos_token_id=[7, 258]))
    tokenizer = chat_tokenizer()
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert end_id(tokenizer) == end and stop_ids(tokenizer) == (end, 258)
    assert stop_ids(tokenizer, model) == (end, 258, 7)
    assert stop_ids(byte_tokenizer()) == (258,)
    assert text_of([65, 66, 7, 67], tokenizer, (7,)) == "AB" and text_of([65, end, 66], tokenizer) == "A"


def test_a_tokenizer_without_bos_eos_and_template_asks_bare_writes_to_the_limit_and_cannot_be_trained():
    tokenizer = byte_tokenizer()
    tokenizer.bos_token = tokenizer.eos_token = tokenizer.pad_token = None
    assert prompt_ids([ITEM], tokenizer) == [list(b"Count. 1+1=")]
    assert stop_ids(tokenizer) == () and padding_id(tokenizer) == 0
    with pytest.raises(InputError, match="no <eos>"):
        encode([ITEM], tokenizer)
    tokenizer = chat_tokenizer()
    tokenizer.bos_token = tokenizer.eos_token = None
    assert row(tokenizer, ITEM)[1] == "2<|im_end|>", "the end of turn is enough"


def test_a_template_that_cannot_be_used_is_refused_in_words():
    tokenizer = chat_tokenizer("{{ raise_exception('never') }}")
    with pytest.raises(InputError, match="never"):
        prompt_ids([ITEM], tokenizer)


def test_thoughts_are_enclosed_in_the_words_that_the_tokenizer_has():
    assert thought_words(byte_tokenizer()) == ("<think>", "</think>") and thought_ids(byte_tokenizer()) == (
        259,
        260,
    )
    vocabulary = {"<|startofthought|>": 3, "<|endofthought|>": 4}

    class Reference:
        def get_vocab(self):
            return vocabulary

    assert thought_words(Reference()) == ("<|startofthought|>", "<|endofthought|>") and thought_ids(
        Reference()
    ) == (3, 4)
    vocabulary.clear()
    assert thought_words(Reference()) == ("<think>", "</think>") and thought_ids(Reference()) is None


def test_rows_are_padded_with_what_the_tokenizer_has():
    tokenizer = byte_tokenizer()
    assert padding_id(tokenizer) == 256
    tokenizer.pad_token = None
    assert padding_id(tokenizer) == 258
    batch = encode([ITEM, Item("chain", 1, "train", "1=", "1")], tokenizer)
    assert batch.input_ids[1, -1] == 258 and batch.attention_mask[1, -1] == 0
    assert torch.equal(batch.labels[1][batch.attention_mask[1] == 0].unique(), torch.tensor([IGNORED]))
