"""Phase evomerge as the pipelines see it: in each round worker pods, then a selection; after the last round the merge.

How many parents and workers there are is fixed when compiling: each is an input of its own.
"""

from __future__ import annotations

from collections.abc import Mapping

from components.shared.phase_spec import ARTIFACT, MODEL, Interface, PhaseSpec, Step, numbered

PHASE = PhaseSpec(
    name="evomerge",
    summary="Evolutionary merging; the population is evaluated in parallel pods.",
    after="cognate",
    takes="models",
    gpu=True,
    steps=(Step("worker"), Step("select", light=True), Step()),
    timeout_seconds=86_400,
)

POSITION: Mapping[str, type] = {"round": int, "rounds": int, "workers": int}
"""Where in the search a task stands; how large the search is, the phase's settings say."""


def worker(parents: int) -> Interface:
    """One worker of one round; `state` is what the selection of the round before decided."""
    return Interface(
        "evomerge_worker",
        "One worker: its share of the population, merged and scored in memory. Genomes travel, not weights.",
        phase=PHASE,
        step="worker",
        inputs=numbered("input_model", parents, MODEL),
        optional={"state": ARTIFACT},
        output=("results", ARTIFACT),
        parameters={"index": int, **POSITION},
    )


def select(parents: int, workers: int) -> Interface:
    """The barrier between two rounds."""
    return Interface(
        "evomerge_select",
        "The barrier of a round: what all workers found becomes the state from which the next round goes on.",
        phase=PHASE,
        step="select",
        inputs={**numbered("input_model", parents, MODEL), **numbered("result", workers, ARTIFACT)},
        output=("state", ARTIFACT),
        parameters=POSITION,
    )


def merge(parents: int, workers: int) -> Interface:
    """The barrier of the last round, and the merge."""
    return Interface(
        "evomerge",
        "Choose the champion of the whole search, merge the parents by its genome, publish the model.",
        phase=PHASE,
        inputs={**numbered("input_model", parents, MODEL), **numbered("result", workers, ARTIFACT)},
        parameters=POSITION,
    )
