"""How many report items have a functional twin in training, and how well their nearest training items answer them.

Of each cell of the suites: thousands of items of training, at the same level, where it has one, else at the highest,
of the task that training draws (requests for both kinds of safety, recall and words for what is put together of them).

- twins: report items that ask the same thing as a training item, by `tests/functional_class.py`;
- class: share right of who answers with a training item's answer of the same class, and otherwise guesses;
- letters, parts, words: share right of who answers with the answer of the training item that is most like the prompt, by
  cosine of tf-idf of its 1- to 3-letter, 3- to 5-letter and 1- to 2-word pieces (scikit-learn).

python -m tests.performance.tasks.twins --train 4000 --report 1000 [--suite NAME …]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer

from components.shared.evaluation.cells import CELLS, SUITES, Cell
from components.shared.evaluation.suites import distinct
from components.shared.tasks.item import Item
from components.shared.tasks.registry import find
from tests.functional_class import functional_class, training_items

PIECES = {
    "letters": {"analyzer": "char", "ngram_range": (1, 3)},
    "parts": {"analyzer": "char", "ngram_range": (3, 5)},
    "words": {"analyzer": "word", "ngram_range": (1, 2), "token_pattern": r"\S+"},
}


def lookup(train: Sequence[Item], report: Sequence[Item], pieces: dict[str, object]) -> np.ndarray:
    """(n,) bool: whether the answer of the nearest training item is the report item's."""
    vectorizer = TfidfVectorizer(lowercase=False, **pieces)
    known = vectorizer.fit_transform([item.prompt for item in train])
    asked = vectorizer.transform([item.prompt for item in report])
    nearest = np.asarray((asked @ known.T).argmax(axis=1)).ravel()
    return np.array([train[place].answer == item.answer for place, item in zip(nearest, report, strict=True)])


def measure(cell: Cell, trained: int, reported: int) -> dict[str, float]:
    """The figures of one cell."""
    train = training_items(cell, trained)
    report = [item for item, _ in distinct(cell.task, "report", cell.level, reported, [0])]
    answers = {functional_class(item): item.answer for item in train}
    chance = find(cell.task).chance(cell.level)
    twins = np.array([functional_class(item) in answers for item in report])
    by_class = np.array(
        [
            float(answers[functional_class(item)] == item.answer) if twin else chance
            for item, twin in zip(report, twins, strict=True)
        ]
    )
    near = {name: float(lookup(train, report, pieces).mean()) for name, pieces in PIECES.items()}
    return {
        "classes": len(answers),
        "n": len(report),
        "twins": twins.mean(),
        "chance": chance,
        "class": by_class.mean(),
    } | near


def main() -> None:
    """Print a table, a row a cell and one a suite."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--train", type=int, default=4000, help="training items of a cell")
    parser.add_argument(
        "--report", type=int, default=1000, help="report items of a cell, as far as it has them"
    )
    parser.add_argument("--suite", nargs="*", default=SUITES, choices=SUITES)
    options = parser.parse_args()
    columns = ("classes", "n", "twins", "chance", "class", *PIECES)
    began, clock = time.process_time(), time.perf_counter()
    print("| suite | cell | " + " | ".join(columns) + " |\n|" + "---|" * (len(columns) + 2))
    for suite in options.suite:
        rows = {}
        for cell in CELLS[suite]:
            row = rows[cell] = measure(cell, options.train, options.report)
            figures = [
                f"{row[name]:.0f}" if name in ("classes", "n") else f"{row[name]:.3f}" for name in columns
            ]
            print(f"| {suite} | {cell.task} {cell.level} | " + " | ".join(figures) + " |", flush=True)
        means = [f"{np.mean([row[name] for row in rows.values()]):.3f}" for name in columns[2:]]
        print(f"| **{suite}** | all | | | " + " | ".join(means) + " |", flush=True)
    print(f"\n{time.process_time() - began:.0f} s of CPU, {time.perf_counter() - clock:.0f} s")


if __name__ == "__main__":
    main()
