"""metrics.jsonl: everything that a phase has measured, a JSON line {time, run, step, metrics} each.

The file grows with the phase, and follows its checkpoints: a phase that goes on from one goes back to what was
measured by then, so that nothing stands there twice.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ..store.interface import Store

FILE = "metrics.jsonl"

POINTS = 2000
"""So many points of one metric are enough to draw it."""


def make_way(file: Path) -> None:
    """Remove what has the file's name and is none: who opens a fifo waits for another end."""
    if file.is_dir() and not file.is_symlink():
        shutil.rmtree(file)
    elif file.is_symlink() or not file.is_file():
        file.unlink(missing_ok=True)


def mark(file: Path) -> int:
    """The place in the file, in bytes, up to which has been measured."""
    return file.stat().st_size if file.is_file() else 0


def copy(file: Path, store: Store) -> str:
    """Put the file beside the checkpoints in their store. Its address there, "" where nothing was measured yet."""
    if not file.is_file():
        return ""
    store.put(FILE, file)
    return store.address(FILE)


def go_back(file: Path, to: int, store: Store) -> None:
    """Forget what was measured behind a mark; on a disk that has less, fetch what `copy` has put into the store."""
    if mark(file) < to and store.exists(FILE):
        store.fetch(FILE, file)
    if mark(file) > to:
        os.truncate(file, to)


def read(file: Path, points: int = POINTS) -> list[dict[str, Any]]:
    """The lines of the file, thinned; none where there is no file.

    Of each metric of each run at most `points` values are left, evenly spaced, the first and the last among them. A
    value that is no finite number is null. A line that a full disk or a kill has cut off is left out: the result does not
    depend on it.
    """
    if not file.is_file():
        return []
    texts = file.read_text(encoding="utf-8", errors="replace").splitlines()
    return thinned([line for text in texts if (line := _whole(text))], points)


def _whole(text: str) -> dict[str, Any] | None:
    """The line that `text` is, None where a part of it is missing."""
    try:
        line = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not (
        isinstance(line, dict) and isinstance(line.get("metrics"), dict) and isinstance(line.get("run"), str)
    ):
        return None
    return line if all(isinstance(value, (int, float)) for value in line["metrics"].values()) else None


def thinned(lines: Sequence[dict[str, Any]], points: int = POINTS) -> list[dict[str, Any]]:
    """The lines with at most `points` values of each metric, and without lines that have none left."""
    places: dict[tuple[str, str], list[int]] = {}
    for number, line in enumerate(lines):
        for name in line["metrics"]:
            places.setdefault((line["run"], name), []).append(number)
    kept = {key: set(_evenly(found, points)) for key, found in places.items()}
    result = []
    for number, line in enumerate(lines):
        metrics = {
            name: value if math.isfinite(value) else None
            for name, value in line["metrics"].items()
            if number in kept[line["run"], name]
        }
        if metrics:
            result.append({**line, "metrics": metrics})
    return result


def _evenly(found: Sequence[int], points: int) -> Iterable[int]:
    if len(found) <= points:
        return found
    return (found[round(number * (len(found) - 1) / (points - 1))] for number in range(points))
