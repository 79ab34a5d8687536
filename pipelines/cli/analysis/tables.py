"""How the commands of this room draw: tables as wide as they need, and curves in one line of text."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

BLOCKS = "▁▂▃▄▅▆▇█"


def table(*columns: str, text: int = 1) -> Table:
    """An empty table whose first `text` columns hold words, and whose others hold numbers.

    :param columns: their headings.
    """
    drawn = Table(box=None, pad_edge=False, header_style="bold")
    for number, name in enumerate(columns):
        drawn.add_column(name, justify="left" if number < text else "right", no_wrap=True)
    return drawn


def show(drawn: Table) -> None:
    """Print a table: in the terminal's width, and whole where there is no terminal."""
    Console(width=None if sys.stdout.isatty() else 200, highlight=False).print(drawn)


def sparkline(values: Sequence[float], width: int = 24) -> str:
    """A curve as one line of blocks, each the mean of its share of the values; "" for less than two."""
    if len(values) < 2:
        return ""
    columns = min(width, len(values))
    edges = [round(number * len(values) / columns) for number in range(columns + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in itertools.pairwise(edges)]
    low, high = min(means), max(means)
    span = (high - low) or 1.0
    return "".join(BLOCKS[round((value - low) / span * (len(BLOCKS) - 1))] for value in means)


def number(value: float | None) -> str:
    """A measurement in four digits; "–" where there is none."""
    return "–" if value is None else f"{value:.4g}"
