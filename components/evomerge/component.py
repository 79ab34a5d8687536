"""The containers of phase evomerge: in each round worker pods, then a selection; after the last round the merge.

How many parents and workers there are is fixed when compiling: each is an input of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kfp.dsl import Artifact, Model

from components.shared.container import component, numbered

SEARCH: Mapping[str, type] = {
    name: int for name in ("round", "rounds", "workers", "generations", "population")
}
"""What every step is told of the search: where it stands, and how large it is (0: what the profile says)."""


def worker(parents: int) -> Any:
    """One worker of one round; `state` is what the selection of the round before decided."""
    return component(
        "evomerge_worker",
        "One worker: its share of the population, merged and scored in memory. Genomes travel, not weights.",
        phase="evomerge",
        step="worker",
        inputs=numbered("model", parents, Model),
        optional={"state": Artifact},
        output=("results", Artifact),
        parameters={"index": int, **SEARCH},
    )


def select(parents: int, workers: int) -> Any:
    """The barrier between two rounds."""
    return component(
        "evomerge_select",
        "The barrier of a round: what all workers found becomes the state from which the next round goes on.",
        phase="evomerge",
        step="select",
        inputs={**numbered("model", parents, Model), **numbered("result", workers)},
        output=("state", Artifact),
        parameters=SEARCH,
    )


def merge(parents: int, workers: int) -> Any:
    """The barrier of the last round, and the merge."""
    return component(
        "evomerge",
        "Choose the champion of the whole search, merge the parents by its genome, publish the model.",
        phase="evomerge",
        inputs={**numbered("model", parents, Model), **numbered("result", workers)},
        parameters=SEARCH,
    )
