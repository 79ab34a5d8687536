"""Answers that a model writes: greedy, in batches, each with a limit of its own and with the strings that end it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from components.shared.generation.endings import ended_by
from components.shared.generation.requests import Decoding, Request
from components.shared.runtime.errors import InputError
from components.shared.tasks.graders import reference
from components.shared.tasks.item import Item
from components.shared.tasks.prompting import has_chat_template, prompt_ids, stop_ids, text_of
from components.shared.tasks.room import positions_of

from .sampling import write

LIMIT = 256
"""Tokens of an answer whose item says nothing: a worked problem of GSM8K has 100 on average, and few have more."""


def written_answers(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    items: Sequence[Item],
    *,
    limit: int = LIMIT,
    seen: Callable[[int], None] | None = None,
    decoding: Decoding = Decoding(),  # noqa: B008 # it cannot be changed
    seed: int = 0,
) -> list[str]:
    """What a model says to each item, without what ends it. Call it in `evaluating(model)`.

    Strings that end it are the item's `until`; for a model without a chat template, which goes on with what it is shown,
    those of its `stop` too.

    :param limit: tokens of an answer at most, where the item has no limit of its own.
    :param seen: is told how many more items have their answer.
    :param seed: of the first item's draws; the others count on from it.
    :returns: texts, in the order of the items.
    :raises InputError: a question leaves no room for an answer; or as `generation.batch.generate`.
    """
    stops = stop_ids(tokenizer, model)
    keys = ("until",) if has_chat_template(tokenizer) else ("until", "stop")
    requests = [
        Request(
            prompt,
            _room(model, item, len(prompt), item.limit or limit),
            frozenset(stops),
            decoding,
            seed + place,
            ended_by(tokenizer, [end for key in keys for end in reference(item).get(key, ())]),
        )
        for place, (item, prompt) in enumerate(zip(items, prompt_ids(items, tokenizer), strict=True))
    ]
    written = write(model, requests, None if seen is None else lambda: seen(1))
    return [text_of(ids, tokenizer, stops) for ids in written]


def _room(model: Any, item: Item, length: int, limit: int) -> int:
    """The tokens of an answer that the model's positions leave.

    :raises InputError: none.
    """
    positions = positions_of(model)
    room = limit if positions is None else min(limit, positions - length)
    if room < 1:
        raise InputError(
            f"a question of task {item.task!r} has {length} tokens, the model takes {positions}",
            where="evaluation", fix="show fewer examples, or leave this item out",
        )  # fmt: skip
    return room
