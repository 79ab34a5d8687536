"""The corpora of a mixture beside its tasks: how many rows of a step are text, and which.

A corpus gets its share of the rows exactly: by step s it has given ⌊s · size · share⌋ of them. So the position of a
step in each corpus is a function of the step alone, every row comes once in each pass, and a run that was killed goes
on with the very next one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from components.shared.runtime.artifact.base_models import CORPORA
from components.shared.runtime.errors import InputError
from components.shared.runtime.phase import Run
from components.shared.tasks.batches import Batch
from components.shared.tasks.corpora import corpora_of, corpus_address
from components.shared.tasks.item import Item
from components.shared.tasks.prompting import padding_id
from components.shared.tasks.room import positions_of

from .contamination import Contamination
from .corpus import Corpus, open_corpus
from .evaluation_items import evaluation_items
from .packing import PackedRows
from .tokens import DocumentEncoder

TOKENS = 8192
"""Of the packed rows that pass the network together, at most, but for a single row."""


class Texts:
    """Packed rows of several corpora.

    :param corpora: by name.
    :param length: tokens of a row.
    :param size: rows of a step, those of tasks among them.
    """

    def __init__(
        self, corpora: Mapping[str, Corpus], *, length: int, padding: int, size: int, seed: int
    ) -> None:
        self.size = size
        self.rows = {
            name: PackedRows(corpus.shards, length, padding, seed) for name, corpus in corpora.items()
        }
        self.at_a_time = max(1, TOKENS // length)

    def count(self, weights: Mapping[str, float], step: int) -> int:
        """How many rows of a step are text."""
        return sum(stop - start for _, start, stop in self._positions(weights, step))

    def batches(self, weights: Mapping[str, float], step: int) -> list[Batch]:
        """The rows of text of a step, a function of the mixture, the seed and the step."""
        return [
            self.rows[name].batch(first, min(self.at_a_time, stop - first))
            for name, start, stop in self._positions(weights, step)
            for first in range(start, stop, self.at_a_time)
        ]

    def _positions(self, weights: Mapping[str, float], step: int) -> list[tuple[str, int, int]]:
        """Of each corpus, from where to where a step reads."""
        return [
            (name, int(step * self.size * share), int((step + 1) * self.size * share))
            for name, share in corpora_of(weights).items()
        ]


def open_texts(
    run: Run[Any],
    weights: Mapping[str, float],
    model: Any,
    tokenizer: Any,
    seed: int,
    *,
    row_tokens: int,
    size: int,
    asked: Sequence[Item] = (),
) -> Texts:
    """The corpora that a mixture names, cleaned of every item that the run evaluates with; their digests enter the lineage.

    :param weights: the mixture, or several in one.
    :param model: that is trained.
    :param seed: of the order.
    :param row_tokens: tokens of a packed row.
    :param size: rows of a step, those of tasks among them.
    :param asked: items that the phase evaluates with beside those of the run.
    :raises ForgeError: a corpus cannot be read, or a row has more tokens than the model takes.
    """
    corpora = dict[str, Corpus]()
    names = list(corpora_of(weights))
    longest = positions_of(model) if names else None
    if longest is not None and row_tokens > longest:
        raise InputError(
            f"a packed row has {row_tokens} tokens, the model takes {longest}",
            where=f"{run.config.phase}.row_tokens",
            fix=f"set it to {longest} or less",
        )
    if names:
        encoder = DocumentEncoder(tokenizer)
        contamination = Contamination(evaluation_items(run.config.evaluation, run.seed, weights, asked))
        for name in names:
            run.progress.note(f"{name} is prepared")
            corpora[name] = open_corpus(corpus_address(name), encoder, contamination)
            lineage = corpora[name].lineage()
            run.progress.note(
                f"{name}: {lineage['documents']:,} of {lineage['read']:,} documents, {lineage['tokens']:,} tokens; "
                f"{lineage['duplicates']:,} duplicates and {lineage['contaminated']:,} with evaluation items left out"
            )
            listed = run.extra.setdefault(CORPORA, [])
            if lineage not in listed:
                listed.append(lineage)
    padding = padding_id(tokenizer) if names else 0
    return Texts(corpora, length=row_tokens, padding=padding, size=size, seed=seed)
