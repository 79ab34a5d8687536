"""What came of the bakes, as the report shows it: claims with their controls, and curves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from components.shared.evaluation.statistics import paired_interval, wilson


def claim(
    text: str, arm: str, ours: np.ndarray, control: str, theirs: np.ndarray, unit: str, at_least: float = 0.0
) -> dict[str, Any]:
    """Right answers (n,) bool of two models to the same items. It holds where their paired interval is above `at_least`."""
    difference, low, high = paired_interval(ours, theirs)
    rates = [float(right.mean()) for right in (ours, theirs)]
    (own_low, own_high), (control_low, control_high) = (wilson(rate, len(ours)) for rate in rates)
    return {
        "claim": text,
        "arm": arm,
        "value": rates[0],
        "low": own_low,
        "high": own_high,
        "control": control,
        "control_value": rates[1],
        "control_low": control_low,
        "control_high": control_high,
        "difference": difference,
        "difference_low": low,
        "difference_high": high,
        "unit": unit,
        "higher_is_better": True,
        "holds": low > at_least,
    }


def curves(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Both divergences through each bake."""
    return {
        f"bake: {result['behaviour']}": {
            "x": [result["every"] * place for place in range(len(result["curve"]))],
            "xlabel": "step",
            "ylabel": "nats a token",
            "series": {
                "KL to the prompted teacher": [pair[0] for pair in result["curve"]],
                "KL of the anchor": [pair[-1] for pair in result["curve"]],
            },
        }
        for result in results
    }


def gates(result: dict[str, Any]) -> list[dict[str, Any]]:
    """The three conditions of a bake, as the manifest keeps them."""
    name = result["behaviour"]
    return [
        {
            "metric": f"{name}: {what}",
            "value": result[key],
            "op": op,
            "bound": bound,
            "passed": bool(result[key] >= bound if op == ">=" else result[key] <= bound),
            "on_fail": "rollback",
        }
        for what, key, op, bound in (
            ("rate without its instruction", "after", ">=", result["wanted"]),
            ("shown where it is not called for", "intrusion", "<=", result["most_intrusion"]),
            ("accuracy lost elsewhere", "forgotten", "<=", result["most_forgotten"]),
        )
    ]
