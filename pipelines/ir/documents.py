"""The documents of a YAML file from elsewhere: plain values, of a depth and a size that the file itself has."""

from __future__ import annotations

from typing import Any

import yaml

from components.shared.runtime.errors import UnsupportedPipeline

LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""Safe, and ten times as fast where PyYAML was built with libyaml."""

DEEPEST = 100
"""libyaml's own loader ends the process where the stack does."""


def documents(text: str) -> list[Any]:
    """Every document that is not empty.

    :raises UnsupportedPipeline: it is no YAML, or one with aliases, or nested deeper than any pipeline is.
    """
    try:
        _look_over(text)
        return [document for document in yaml.load_all(text, LOADER) if document]
    except (yaml.YAMLError, ValueError, RecursionError, TypeError) as error:
        raise UnsupportedPipeline("the pipeline is not YAML", why=f"{error!s:.500}") from error


def _look_over(text: str) -> None:
    depth = 0
    for event in yaml.parse(text, LOADER):
        line = event.start_mark.line + 1 if event.start_mark else 0
        if isinstance(event, yaml.AliasEvent):  # a few lines of them can stand for gigabytes
            raise ValueError(f"line {line}: an alias, which no compiled pipeline has")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > DEEPEST:
                raise ValueError(f"line {line}: nested deeper than {DEEPEST}")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
