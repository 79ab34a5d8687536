"""A file of several merges, made one after the other; what is made on the way is gone at the end."""

from __future__ import annotations

import re
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path

from ..streaming.recipe import Recipe
from .configuration import documents


def merge_documents(
    path: Path, output: Path, write: Callable[[Recipe, Path], None], *, seed: int = 0
) -> None:
    """Make every merge of a file; the last one becomes the output.

    :param path: of a mergekit configuration.
    :param output: the folder of the last merge.
    :param write: makes a recipe's merge in a folder.
    :param seed: of random masks.
    :raises ConfigError: a document cannot be read as a recipe.
    """
    *earlier, last = documents(path)
    parts = output.parent / f".{output.name}.{uuid.uuid4().hex[:8]}.parts"
    made: dict[str, Path] = {}
    try:
        for number, document in enumerate(earlier):
            folder = parts / f"{number}" / (re.sub(r"[^\w.-]", "_", document.name).lstrip(".") or "merge")
            write(document.recipe(made, seed=seed), folder)
            made[document.name] = folder
        write(last.recipe(made, seed=seed), output)
    finally:
        shutil.rmtree(parts, ignore_errors=True)
