"""A model's positions: what is longer is drawn again, left out, or refused, and said."""

from __future__ import annotations

import dataclasses

import pytest

from components.shared.runtime.errors import InputError
from components.shared.tasks.batches import encode, mixture
from components.shared.tasks.registry import sample
from components.shared.tasks.room import Room
from components.shared.tasks.tokenizer import CHAT_TEMPLATE, byte_tokenizer

CHAT = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SIZES = {"chain": [1, 10], "recall": [1, 4]}


def chatting():
    """The byte tokenizer with a chat template, whose words are longer than those of questions."""
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = CHAT
    return tokenizer


@pytest.mark.parametrize("tokenizer", [byte_tokenizer(), chatting()], ids=["bare", "template"])
def test_a_length_is_that_of_the_row_and_what_bounds_it_is_never_below(tokenizer):
    room = Room(tokenizer, 10**6)
    for task, level in (("chain", 3), ("recall", 2), ("tool", 1), ("cloze", 3)):
        item = sample(task, "train", level, 0, 0)
        turns = dataclasses.replace(item, messages=(("user", "äh?"), ("assistant", "ja"), ("user", "so")))
        for each in (item, dataclasses.replace(item, scratch="a; b"), turns):
            assert room.length(each) == encode([each], tokenizer).input_ids.shape[1] <= room._at_most(each)
    assert CHAT_TEMPLATE != CHAT


def test_a_mixture_draws_again_what_is_too_long_and_is_the_same_otherwise():
    tokenizer, said = byte_tokenizer(), list[str]()
    asked = ({"chain": 1.0}, [3, 4], "train", 0, 0, 64)
    plain = mixture(*asked, scratch=1.0)
    longest = max(encode([item], tokenizer).input_ids.shape[1] for item in plain)
    assert mixture(*asked, scratch=1.0, room=Room(tokenizer, longest)) == plain
    room = Room(tokenizer, longest - 4, said.append)
    drawn = mixture(*asked, scratch=1.0, room=room)
    assert encode(drawn, tokenizer).input_ids.shape[1] <= longest - 4
    assert drawn == mixture(*asked, scratch=1.0, room=room)
    assert [a.level for a in drawn] == [b.level for b in plain]
    assert all(a == b for a, b in zip(drawn, plain, strict=True) if room.holds(b))
    room.say()
    assert "items were longer" in said[0] and "chain 4" in said[0] and not room.redrawn


def test_levels_and_tasks_of_which_nothing_fits_are_left_out_and_named():
    said = list[str]()
    room = Room(byte_tokenizer(), 36, said.append)
    weights = {"chain": 2.0, "recall": 1.0, "corpus:./text": 1.0}
    assert room.fitting(weights, SIZES) == (weights, {"chain": [1], "recall": [1]})
    assert ["chain at level 10" in said[0], "recall at level 4" in said[1], len(said)] == [True, True, 2]
    assert room.fitting({"chain": 2.0, "recall": 1.0}, {"chain": [1], "recall": [4]}) == (
        {"chain": 2.0}, {"chain": [1], "recall": [4]} | {"chain": [1]},
    )  # fmt: skip
    assert room.fitting({"chain": 1.0}, [1, 2]) == ({"chain": 1.0}, [1, 2])
    assert len(said) == 2, "each is said once"


def test_a_mixture_of_which_less_than_half_fits_is_refused_with_the_length_and_the_positions():
    room = Room(byte_tokenizer(), 1024)
    with pytest.raises(
        InputError, match=r"'long/needle' at level 1 has 1,?\d+ tokens, the model takes 1024"
    ) as refused:
        room.fitting({"long/needle": 3.0, "chain": 1.0}, [1])
    assert "max_position_embeddings" in refused.value.fix
    with pytest.raises(InputError, match="64 items in a row"):
        room.sample("long/needle", "train", 1, 0, 0)
