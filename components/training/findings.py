"""What came of the ten stages, as the report shows it: claims with their controls, and curves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from components.shared.evaluation.claims import claim
from components.shared.evaluation.curves import curve


def band_is_held(results: Sequence[dict[str, Any]], low: float, high: float) -> list[dict[str, Any]]:
    """Choosing the difficulty against uniform difficulty: how far from the middle of the band was each step's success?

    The control is not a run of its own: it is the success that the cells' running rates predict for a batch drawn by the
    weights alone, at the same moment. Empty without a stage at the edge of chaos.
    """
    edge = [result for result in results if result["kind"] == "edge_of_chaos"]
    if not edge:
        return []
    chosen, uniform = (
        np.abs(np.concatenate([result[name] for result in edge]) - (low + high) / 2)
        for name in ("success", "unsteered")
    )
    found = claim(
        f"choosing the difficulty holds the success rate in {low:.0%}–{high:.0%}",
        "chosen difficulty",
        chosen,
        "uniform difficulty, predicted from the same running rates",
        uniform,
        unit="distance of a step's success rate from the middle of the band",
        higher_is_better=False,
    )
    return [found | {"holds": found["holds"] and found["value"] < (high - low) / 2}]


def curves(results: Sequence[dict[str, Any]], low: float, high: float) -> dict[str, Any]:
    """Loss and success over all stages, thinned; held-out loss and intrinsic dimension after each stage."""
    success = [value for result in results for value in result["success"]]

    def stages(label: str, **series: list[float]) -> dict[str, Any]:
        x = list(range(1, len(results) + 1))
        return {"x": x, "xlabel": "stage", "ylabel": label, "series": series}

    band = {"band, low": [low] * len(success), "band, high": [high] * len(success)}
    return {
        "loss through the ten stages": curve(
            {"train": [value for result in results for value in result["curve"]]}, "nats a token"
        ),
        "success rate": curve({"fresh items": success} | band, "share right"),
        "held-out loss": stages(
            "nats a token",
            before=[r["held_out_before"] for r in results],
            after=[r["held_out_after"] for r in results],
        ),
        "geometry": stages("TwoNN", **{"intrinsic dimension": [r["dimension"] for r in results]}),
    }
