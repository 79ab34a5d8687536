"""What came of the ten stages, as the report shows it: claims with their controls, and curves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from components.shared.evaluation.claims import claim
from components.shared.evaluation.curves import curve


def band_is_held(results: Sequence[dict[str, Any]], low: float, high: float) -> list[dict[str, Any]]:
    """Choosing the difficulty against uniform difficulty, by the distance of each step's success from the band's middle.

    The control is not a run of its own: it is the success that the cells' running rates predict for a batch drawn by the
    weights alone, at the same moment.

    :param results: of the stages, with their series.
    :param low: of the band, a success rate.
    :param high: of the band.
    :returns: one claim; none without a stage at the edge of chaos.
    """
    edge = [result for result in results if result["kind"] == "edge_of_chaos"]
    if not edge:
        return []
    chosen, uniform = (
        np.abs(np.concatenate([result[name] for result in edge]) - (low + high) / 2)
        for name in ("success", "unsteered")
    )
    band = claim(
        f"choosing the difficulty holds the success rate in {low:.0%}–{high:.0%}",
        "chosen difficulty",
        chosen,
        "uniform difficulty, predicted from the same running rates",
        uniform,
        unit="distance of a step's success rate from the middle of the band",
        higher_is_better=False,
    )
    return [band | {"holds": band["holds"] and band["value"] < (high - low) / 2}]


def curves(results: Sequence[dict[str, Any]], low: float, high: float) -> dict[str, Any]:
    """Loss and success over all stages, thinned; losses, intrinsic dimension and weight spread after each stage.

    :param results: of the stages, with their series.
    :param low: of the band, a success rate.
    :param high: of the band.
    """
    success = [value for result in results for value in result["success"]]

    def stages(label: str, **series: list[float]) -> dict[str, Any]:
        x = list(range(1, len(results) + 1))
        return {"x": x, "xlabel": "stage", "ylabel": label, "series": series}

    band = {"band, low": [low] * len(success), "band, high": [high] * len(success)}
    return {
        "loss through the ten stages": curve(
            {"train": [value for result in results for value in result["loss"]]}, "nats a token"
        ),
        "success rate": curve({"fresh items": success} | band, "share right"),
        "held-out loss": stages(
            "nats a token",
            before=[r["held_out_loss_before"] for r in results],
            after=[r["held_out_loss_after"] for r in results],
        ),
        "train loss": stages(
            "nats a token",
            before=[r["train_loss_before"] for r in results],
            after=[r["train_loss_after"] for r in results],
        ),
        "geometry": stages("TwoNN", **{"intrinsic dimension": [r["intrinsic_dimension"] for r in results]}),
        "intrinsic dimension / width": stages(
            "share of the hidden size", **{"ID/d": [r["intrinsic_dimension_share"] for r in results]}
        ),
        "weight spread": stages("standard deviation", weights=[r["weight_spread"] for r in results]),
    }
