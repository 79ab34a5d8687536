"""From tasks to tensors: a weighted mixture of items for a step, and its encoding for a causal language model.

No iterator, no state: the items of a step are a function of (seed, step), so a run that was killed goes on exactly.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from components.shared.runtime.errors import ConfigError

from .corpora import is_corpus
from .item import Item, Split
from .prompting import head_ids, padding_id, tail_ids
from .registry import find, sample
from .room import Levels, Room

IGNORED = -100  # the label that torch's cross-entropy leaves out


class Batch(NamedTuple):
    """Right-padded rows, as Hugging Face models take them (labels are not shifted: the model shifts).

    :param input_ids: (B, T) int64.
    :param labels: (B, T) int64, IGNORED outside what is learnt.
    :param attention_mask: (B, T) int64, 1 on real tokens.
    """

    input_ids: Tensor
    labels: Tensor
    attention_mask: Tensor

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on a device."""
        return Batch(*(tensor.to(device, non_blocking=tensor.is_pinned()) for tensor in self))


def mixture(
    weights: Mapping[str, float],
    levels: Levels,
    split: Split,
    seed: int,
    step: int,
    size: int,
    *,
    scratch: float = 0.0,
    room: Room | None = None,
) -> list[Item]:
    """The `size` items of one step. Runs that follow one another need different seeds, or they see the same items again.

    :param weights: how often each task is drawn, in proportion.
    :param levels: the levels drawn from with equal probability, for all tasks or task by task.
    :param scratch: the share of items (of those that have worked steps) that show them.
    :param room: of the model that reads them: an item that is too long for it is drawn again.
    :raises ConfigError: the weights are negative, or all 0; or as `registry.sample`.
    :raises InputError: as `Room.sample`.
    """
    names = list(weights)
    if not names or any(weight < 0 for weight in weights.values()) or not sum(weights.values()):
        raise ConfigError(
            f"the weights of a mixture must be ≥ 0 and not all 0: {dict(weights)}",
            where="tasks.mixture",
            fix="give at least one task a positive weight",
        )
    per_task = {name: list(levels[name] if isinstance(levels, Mapping) else levels) for name in names}
    rng = random.Random(f"mixture/{seed}/{split}/{step}")
    items, draw = [], sample if room is None else room.sample
    for row, name in enumerate(rng.choices(names, list(weights.values()), k=size)):
        item = draw(name, split, rng.choice(per_task[name]), step * size + row, seed)
        items.append(item if rng.random() < scratch else without_scratch(item))
    return items


def without_scratch(item: Item) -> Item:
    """The same item, asked for its answer at once."""
    return dataclasses.replace(item, scratch="") if item.scratch else item


def encode(
    items: Sequence[Item],
    tokenizer: PreTrainedTokenizerBase,
    *,
    learn_prompt: bool = False,
) -> Batch:
    """A row an item: its head, and behind it its tail, as `prompting` writes them.

    Learnt are scratch, `</think>`, answer and what ends it. `<think>` itself is not: whether to think is said by whoever
    asks, so that a model without it answers at once. Parts are tokenised apart, as they are at generation.

    :param learn_prompt: learn system and prompt too (text corpora; <bos> has nothing before it to learn from).
    :returns: a row an item, in the order of the items.
    :raises InputError: nothing ends an answer, or the chat template cannot be used.
    """
    tails = tail_ids(items, tokenizer)
    heads = head_ids(items, tokenizer, thinking=[bool(item.scratch) for item in items])
    padding, bos = padding_id(tokenizer), tokenizer.bos_token_id
    rows = [[*head, *tail] for head, tail in zip(heads, tails, strict=True)]
    learnt_from = [int(head[:1] == [bos]) if learn_prompt else len(head) for head in heads]
    width = max(map(len, rows))
    input_ids = torch.tensor([row + [padding] * (width - len(row)) for row in rows])
    position = torch.arange(width)
    inside = position < torch.tensor([len(row) for row in rows])[:, None]
    learnt = inside & (position >= torch.tensor(learnt_from)[:, None])
    return Batch(input_ids, input_ids.masked_fill(~learnt, IGNORED), inside.long())


def check_mixture(weights: Mapping[str, float], levels: Levels) -> None:
    """Draw one training item of every task and level, so that a wrong name fails at the start and not at step 900.

    Corpora are left out: opening them is what shows whether they are there.

    :raises ConfigError: an unknown task or level, or a task without levels.
    """
    for name in weights:
        if is_corpus(name):
            continue
        find(name)
        if isinstance(levels, Mapping) and name not in levels:
            raise ConfigError(
                f"the mixture has no levels for task {name!r}", where="tasks", fix="name its levels"
            )
        for level in levels[name] if isinstance(levels, Mapping) else levels:
            sample(name, "train", level, 0, 0)
