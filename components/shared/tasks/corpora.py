"""`corpus:ADDRESS` in a mixture: text to learn from beside tasks. Its rows are packed by components/shared/data.

    corpus:/data/wiki                    a folder (or one file) of parquet, jsonl, Arrow or text
    corpus:s3://bucket/prefix            the same in a store
    corpus:owner/name@revision           a data set of the hub
    corpus:…?column=content&split=train&config=en

Nothing heavy is imported here: settings are checked with it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qsl

from components.shared.runtime.errors import ConfigError

CORPUS = "corpus:"
HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
OPTIONS = ("column", "split", "config")

Kind = Literal["folder", "store", "hub"]


@dataclass(frozen=True)
class CorpusAddress:
    """Where a corpus is.

    :param place: the path, the address or the name, without revision and options.
    :param revision: of a data set of the hub: a branch, a tag or a commit; "" for the main branch.
    :param column: that holds the text.
    :param split: of a data set of the hub.
    :param config: of a data set of the hub: its configuration; "" where it has one only.
    """

    kind: Kind
    place: str
    revision: str = ""
    column: str = "text"
    split: str = "train"
    config: str = ""


def is_corpus(name: str) -> bool:
    """Whether an entry of a mixture is a corpus, and no task."""
    return name.startswith(CORPUS)


def tasks_of(weights: Mapping[str, float]) -> dict[str, float]:
    """A mixture without its corpora."""
    return {name: weight for name, weight in weights.items() if not is_corpus(name)}


def corpora_of(weights: Mapping[str, float]) -> dict[str, float]:
    """The corpora of a mixture, and the share of the rows that each has."""
    total = sum(weights.values())
    return {name: weight / total for name, weight in weights.items() if is_corpus(name) and weight}


def corpus_address(name: str) -> CorpusAddress:
    """What `corpus:ADDRESS` names. What lies on this machine goes before a data set of the hub that is spelled alike.

    :raises ConfigError: an unknown option, or no address; whether something is there is seen where it is read.
    """
    text, _, query = name.removeprefix(CORPUS).strip().partition("?")
    options = dict(parse_qsl(query, keep_blank_values=True))
    if unknown := [option for option in options if option not in OPTIONS]:
        raise ConfigError(
            f"a corpus has no option {unknown[0]!r}", where=name, fix=f"use {', '.join(OPTIONS)}"
        )
    if "://" in text:
        return CorpusAddress("store", text.rstrip("/"), **options)
    place, _, revision = text.partition("@")
    if not Path(text).expanduser().exists() and HUB_NAME.fullmatch(place):
        return CorpusAddress("hub", place, revision, **options)
    if not text:
        raise ConfigError("a corpus without an address", where=name, fix="write corpus:ADDRESS")
    return CorpusAddress("folder", str(Path(text).expanduser()), **options)


def require_task(weights: Mapping[str, float]) -> None:
    """Refuse a mixture of corpora alone: what comes of training is judged on the items of tasks.

    :raises ValueError: no task in it has a weight above 0.
    """
    if any(map(is_corpus, weights)) and not any(tasks_of(weights).values()):
        raise ValueError("a mixture of corpora alone; add a task, by whose items the model is judged")
