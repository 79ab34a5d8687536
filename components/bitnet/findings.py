"""What conversion cost and saved, as the report shows it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from components.shared.evaluation.claims import claim
from components.shared.runtime.artifact.weights import describe


class Losses(NamedTuple):
    """Of every item: nats of its answer, (n,) float64, and how many tokens it has, (n,) int64."""

    nats: np.ndarray
    tokens: np.ndarray


def mean(losses: Losses) -> float:
    """Nats a token over all items."""
    return float(losses.nats.sum() / losses.tokens.sum())


def against_rounding(trained: Losses, rounded: Losses, seed: int) -> dict[str, Any]:
    """The claim that training recovers what rounding destroys: over the same items, with a paired interval."""
    after, without = (each.nats / each.tokens for each in (trained, rounded))
    return claim(
        "quantisation-aware training recovers what rounding to ternary destroys",
        "ternary, trained",
        after,
        "ternary, only rounded",
        without,
        unit="nats a token of an item's answer, search split",
        higher_is_better=False,
        seed=seed,
    )


def sizes(before: Path, after: Path) -> dict[str, Any]:
    """Bytes of two models' weights on disk: by how they are stored, and tensor by tensor for the second.

    :param before: folder of the first.
    :param after: folder of the second.
    :returns: {"before": {kind: bytes}, "stored": {kind: bytes}, "per_tensor": [{tensor, dtype, codec, bytes}]}.
    """
    kinds: dict[str, dict[str, int]] = {"before": {}, "stored": {}}
    tensors = {"before": describe(before)[0], "stored": describe(after)[0]}
    for when, of_model in tensors.items():
        for tensor in of_model.values():
            kind = tensor["codec"] if tensor["dtype"] == "U8" else tensor["dtype"]
            kinds[when][kind] = kinds[when].get(kind, 0) + tensor["bytes"]
    rows = [
        {"tensor": name, "dtype": tensor["dtype"], "codec": tensor["codec"], "bytes": tensor["bytes"]}
        for name, tensor in tensors["stored"].items()
    ]
    return {**kinds, "per_tensor": rows}
