"""Every item that a run asks a model in search, selection or report: what its training text may not hold.

    the five suites                    the items that the run draws of them on the three splits
    files of questions and ARC         every row that is not for training, of whatever the run names anywhere
    other tasks that it names apart    report items of all levels (`training.target`, `evaluation.apart`)
    evaluation.text, evaluation.chat   the held-out text, as far as it is scored, and the questions

A phase that asks more hands it in (training: the report items of its mixture and of its target, and those that its stages
are judged on). What other phases generate for claims of their own, from tasks without end, is not among them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from components.shared.evaluation import chat
from components.shared.evaluation.cells import suites_of
from components.shared.evaluation.suites import distinct, suite_items
from components.shared.runtime.config.settings import SUITES, EvaluationSettings
from components.shared.runtime.errors import InputError
from components.shared.runtime.store.local_copy import local_file
from components.shared.tasks.corpora import is_corpus
from components.shared.tasks.generators.text import FILE, content_of, rows_of
from components.shared.tasks.item import LEVELS, Item, Split
from components.shared.tasks.registry import belongs, find

ASKED: tuple[Split, ...] = ("search", "select", "report")
TARGET_ITEMS = 4
"""Items of a task that is named apart, for each of a suite: as many as phase training asks of a single target."""


def evaluation_items(
    evaluation: EvaluationSettings, seed: int, tasks: Iterable[str], asked: Iterable[Item] = ()
) -> list[Item]:
    """The items that a run evaluates with.

    A suite is drawn by one seed, or by several in turn: both ways count.

    :param seed: of the run.
    :param tasks: of the mixture; of those that are lists, every row outside of the training split counts.
    :param asked: further items, which a phase draws itself.
    :raises InputError: a file or the held-out text cannot be read.
    """
    items = [
        item
        for split in ASKED
        for suite in suites_of(split)
        for seeds in sorted({1, evaluation.seeds})
        for item in suite_items(suite, split=split, items=evaluation.items, seed=seed, seeds=seeds)
    ]
    apart = [name for name in [*evaluation.suites, *evaluation.apart] if name not in SUITES]
    for name in dict.fromkeys([*tasks, *apart]):
        if not is_corpus(name):
            items += _listed(name)
    for name in dict.fromkeys(apart):
        items += _generated(name, TARGET_ITEMS * evaluation.items, seed)
    return [*items, *_stand_ins(evaluation), *asked]


def _listed(name: str) -> Iterator[Item]:
    """The rows of a list that are not for training; a generator has none."""
    if name.startswith(FILE):
        drafts = [row.draft for row in rows_of(local_file(name.removeprefix(FILE)))]
    else:
        task = find(name)
        levels = (task.levels or LEVELS) if task.rows else ()
        drafts = [draft for level in levels for draft in task.rows(level)] if task.rows else []
    return (draft.item(name, 1, belongs(draft)) for draft in drafts if belongs(draft) in ASKED)


def _generated(name: str, count: int, seed: int) -> Iterator[Item]:
    """Report items of a generator at every level; a list's are all there already."""
    if name.startswith(FILE) or find(name).rows is not None:
        return
    for level in LEVELS:
        try:
            yield from (item for item, _ in distinct(name, "report", level, count, [seed]))
        except InputError:  # it has nothing at this level: whoever asks it there is told so
            continue


def _stand_ins(evaluation: EvaluationSettings) -> Iterator[Item]:
    """The held-out text, and the questions of `chat`, with an answer behind them and alone."""
    if evaluation.text:
        words = content_of(local_file(evaluation.text)).split()
        text = " ".join(words[: evaluation.text_tokens])  # no word is less than a token
        yield Item("text", 1, "report", "", text)
    if evaluation.chat:
        for item in chat.items():
            yield from (item, replace(item, answer=""))
