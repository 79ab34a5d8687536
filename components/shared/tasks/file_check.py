"""What a file of questions holds, and every line of it that is wrong: what `forge validate --tasks` prints."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.shared.runtime.errors import InputError

from .generators.text import content_of
from .item import SPLITS
from .registry import belongs
from .user_file import Problem, checked


@dataclass(frozen=True)
class FileReport:
    """A file of questions, counted.

    :param wrong: its wrong lines.
    :param splits: questions of each split; likewise levels ("every" where a row names none) and graders.
    :param twice: questions that are asked more than once.
    :param unanswered: questions without an answer: they can be graded, and not learnt from.
    """

    file: str
    wrong: list[Problem]
    splits: dict[str, int]
    levels: dict[str, int]
    graders: dict[str, int]
    twice: int
    unanswered: int

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {**vars(self), "wrong": [problem._asdict() for problem in self.wrong]}

    def lines(self) -> Iterator[str]:
        """For the terminal: a line for each wrong one, and what the others are."""
        for number, what in self.wrong:
            yield f"{self.file}:{number}: {what}"

        def listed(counts: dict[str, int]) -> str:
            return ", ".join(f"{name} {count}" for name, count in counts.items())

        state = "ok  " if not self.wrong else "not "
        yield f"{state} {self.file}: {sum(self.splits.values())} questions; {listed(self.splits)}"
        yield f"     levels: {listed(self.levels)}; graders: {listed(self.graders)}"
        if self.twice:
            yield f"     {self.twice} are asked more than once"
        if self.unanswered:
            yield f"     {self.unanswered} have no answer: no phase can learn from them"


def check(file: Path) -> FileReport:
    """Read a file of questions, and count.

    :raises InputError: it cannot be read, is no JSONL, or has no line at all.
    """
    if ".jsonl" not in file.suffixes:
        raise InputError(
            "a file of questions is JSONL", where=str(file), fix="name it ….jsonl, or ….jsonl.gz"
        )
    good, wrong = checked(file, content_of(file))
    if not good and not wrong:
        raise InputError("a data file is empty", where=str(file), fix="give it at least one row")
    splits = Counter(belongs(row.draft) for row in good)
    asked = Counter(row.draft.prompt or row.draft.answer for row in good)
    return FileReport(
        str(file),
        wrong,
        {split: splits[split] for split in SPLITS},
        {str(level or "every"): count for level, count in sorted(Counter(row.level for row in good).items())},
        dict(Counter(row.draft.grader for row in good)),
        sum(count - 1 for count in asked.values()),
        sum(not row.draft.answer for row in good),
    )
