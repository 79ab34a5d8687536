"""The pipeline's first model, carried from manifest to manifest, so that the last phase can still be held against it.

It is the base model that was given; without one, the model that the first phase has made. Where several models are merged,
theirs is the first one's: the inputs are in the order of the pipeline. Every later manifest has it under `extra["start"]`:

    {"phase": that made it, "digest": its content, "measured": {name: number}}

So it travels with the artifact: through a store, a resumed run, a run that begins in the middle with somebody's artifact. A
model whose manifest does not have it is where its pipeline starts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from . import measured
from .artifact.artifact import Artifact

KEY = "start"

BASE_MEASURED = "base_measured"
"""In a run's `extra`, and in no manifest: what a phase has measured of the given base model, whose folder says nothing."""


def of_inputs(inputs: Mapping[str, Sequence[Artifact]]) -> dict[str, Any] | None:
    """The first model of the pipeline, as a phase's inputs know it; None where none of them is a model."""
    first = next((a for name in sorted(inputs) for a in inputs[name] if a.kind == "model"), None)
    if first is None:
        return None
    carried = first.manifest.extra.get(KEY)
    if carried is not None:
        return dict(carried)
    return {
        "phase": first.manifest.phase,
        "digest": first.digest,
        "measured": measured.of_manifest(first.manifest),
    }


def carry(inputs: Mapping[str, Sequence[Artifact]], extra: dict[str, Any]) -> None:
    """Put the first model into the `extra` of a manifest that is about to be written, with what was now measured of it."""
    found = extra.pop(BASE_MEASURED, {})
    start = of_inputs(inputs)
    if start is not None:
        extra[KEY] = {**start, "measured": {**found, **start["measured"]}}
