"""Which items a model's positions hold, so that none is trained on or asked beyond them.

Items of a task at a level vary in length. One that is too long is drawn again; a level or a task of which most are too long
is left out of its mixture, each said once; where less than half of a mixture would be left it is refused, before any work.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from components.shared.runtime.errors import InputError

from .corpora import is_corpus
from .item import EXACT, Item, Split
from .prompting import head_ids, tail_ids
from .registry import sample

Levels = Sequence[int] | Mapping[str, Sequence[int]]
"""Of all tasks, or task by task."""

TRIED = 8
"""Items of a task and level of which half must fit; then so many times as many are drawn at most for one that does."""
SEED_STEP = 7_368_787
"""Between the seeds of an item and of the one in its place."""
LEAST = 0.5
"""Share of a mixture that must fit: with less of it another course would be trained than was asked for."""


def positions_of(model: Any) -> int | None:
    """The tokens that a model takes in a row; None where its configuration does not say."""
    return getattr(model.config.get_text_config(), "max_position_embeddings", None)


class Room:
    """The positions of a model, in rows of its tokenizer.

    :param positions: tokens of a row at most; None: any number.
    :param note: is told what is left out.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        positions: int | None,
        note: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.positions, self.redrawn = positions, Counter[str]()
        self._tokenizer, self._note = tokenizer, note
        self._around: int | None = None
        self._of_cell: dict[tuple[str, int], int] = {}

    def holds(self, item: Item) -> bool:
        """Whether the row of an item fits, its worked steps and its answer included."""
        if self.positions is None or self._at_most(item) <= self.positions:
            return True
        return self.length(item) <= self.positions

    def holds_question(self, item: Item) -> bool:
        """Whether the question fits and leaves a token for an answer."""
        return self.holds(dataclasses.replace(item, answer="", scratch="", grader=EXACT))

    def length(self, item: Item) -> int:
        """Tokens of an item's row."""
        [head] = head_ids([item], self._tokenizer, thinking=[bool(item.scratch)])
        [tail] = tail_ids([item], self._tokenizer)
        return len(head) + len(tail)

    def sample(self, task: str, split: Split, level: int, index: int, seed: int) -> Item:
        """`registry.sample`; where the item is too long, the one of that number of another seed.

        :raises InputError: as `registry.sample`, or none of many fits.
        """
        for attempt in range(TRIED**2):
            item = sample(task, split, level, index, seed + attempt * SEED_STEP)
            if self.holds(item):
                return item
            self.redrawn[f"{task} {level}"] += 1
        raise self._too_long(task, level, self.length(item), f"{TRIED**2} items in a row were too long")

    def fitting(self, weights: Mapping[str, float], levels: Levels) -> tuple[dict[str, float], Levels]:
        """A mixture without the tasks and levels of which most items are too long; the same levels where all stay.

        :raises InputError: less than half of the mixture's weight is left.
        """
        of_task = {
            task: list(levels[task] if isinstance(levels, Mapping) else levels)
            for task in weights
            if not is_corpus(task)
        }
        kept = {task: [level for level in of_task[task] if self._fits(task, level)] for task in of_task}
        if kept == of_task:
            return dict(weights), levels
        left = {task: weight for task, weight in weights.items() if is_corpus(task) or kept[task]}
        asked = sum(weight for task, weight in weights.items() if not is_corpus(task))
        if sum(weight for task, weight in left.items() if not is_corpus(task)) < LEAST * asked:
            task, level = next((task, of_task[task][0]) for task in of_task if not kept[task])
            raise self._too_long(
                task, level, self._of_cell[task, level], "less than half of the mixture would be left"
            )
        others = levels if isinstance(levels, Mapping) else {}
        return left, {**others, **{task: levels for task, levels in kept.items() if levels}}

    def say(self) -> None:
        """Note how many items were drawn again since it was said last."""
        if self.redrawn:
            cells = ", ".join(f"{cell} ({count})" for cell, count in self.redrawn.most_common(5))
            self._note(
                f"{self.redrawn.total():,} items were longer than the model's {self.positions:,} tokens, and others"
                f" were drawn in their place: {cells}"
            )
        self.redrawn.clear()

    def _fits(self, task: str, level: int) -> bool:
        """Whether items fit often enough to be drawn: the first two of training, or half of some.

        One is drawn in any case, so that a wrong name or level is seen here.
        """
        if (task, level) not in self._of_cell:
            long: list[int] = []
            for number in range(TRIED):
                item = sample(task, "train", level, number, 0)
                if not self.holds(item):
                    long.append(self.length(item))
                elif number == 1 and not long:
                    break
            left_out = len(long) > TRIED // 2
            if left_out:
                self._note(
                    f"task {task} at level {level} is left out: {len(long)} of {TRIED} items have {min(long):,} tokens"
                    f" and more, the model takes {self.positions:,}"
                )
            self._of_cell[task, level] = min(long) if left_out else 0
        return not self._of_cell[task, level]

    def _at_most(self, item: Item) -> int:
        """Tokens that a row has at most, without making them: no more than its bytes, and what is written around them."""
        if self._around is None:
            self._around = self.length(Item("", 1, "train", "x", "x", system="x", scratch="x"))
        texts = (item.system, item.prompt, item.scratch, item.answer, *(text for _, text in item.messages))
        return sum(len(text.encode()) for text in texts) + self._around * (1 + len(item.messages))

    def _too_long(self, task: str, level: int, length: int, why: str) -> InputError:
        return InputError(
            f"an item of task {task!r} at level {level} has {length} tokens, the model takes {self.positions}",
            where="tasks",
            why=why,
            fix="use lower levels of this task, leave it out, or build a model with more positions"
            " (cognate.model.max_position_embeddings)",
        )
