"""The questions of a behaviour: relevant ones in their three forms, and those that it must leave alone."""

from __future__ import annotations

import dataclasses
import random

from components.shared.tasks.generators.behaviours import FAMILIES
from components.shared.tasks.item import Draft, Item, Split
from components.shared.tasks.registry import sample_draft


def _item(draft: Draft, name: str, level: int, split: Split) -> Item:
    return dataclasses.replace(draft, scratch="").item(name, level, split)


def relevant(name: str, split: Split, levels: list[int], count: int, seed: int) -> list[dict[str, Item]]:
    """`count` questions that a behaviour is about.

    :param name: of the behaviour.
    :param levels: difficulties drawn from.
    :returns: of each question its forms: {"prompted", "plain", "baked"} → item.
    """
    family, questions = FAMILIES[name], []
    for index in range(count):
        level = random.Random(f"{name}/level/{split}/{index}/{seed}").choice(levels)
        draft = sample_draft(family.relevant, f"{name}/relevant", split, level, index, seed)
        questions.append({form: _item(d, name, level, split) for form, d in family.forms(draft).items()})
    return questions


def irrelevant(name: str, split: Split, levels: list[int], count: int, seed: int) -> list[Item]:
    """`count` questions without an instruction that a behaviour must leave alone.

    :param name: of the behaviour.
    :param levels: difficulties drawn from.
    """
    family, questions = FAMILIES[name], []
    for index in range(count):
        rng = random.Random(f"{name}/irrelevant/{split}/{index}/{seed}")
        generate, level = rng.choice(family.irrelevant), rng.choice(levels)
        draft = sample_draft(generate, f"{name}/irrelevant", split, level, index, seed)
        questions.append(_item(draft, name, level, split))
    return questions


def instructed(items: list[Item], name: str) -> list[Item]:
    """The same questions under the instruction of behaviour `name`."""
    return [dataclasses.replace(item, system=FAMILIES[name].system) for item in items]
