"""What came of the bakes, as the report shows it: curves and gates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from components.shared.evaluation.curves import curve


def curves(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Both divergences through each bake.

    :param results: of the bakes, each with its `curve`: (KL to the teacher, anchor's KL) of every step.
    """
    return {
        f"bake: {result['behaviour']}": curve(
            {
                "KL to the prompted teacher": [pair[0] for pair in result["curve"]],
                "KL of the anchor": [pair[-1] for pair in result["curve"]],
            },
            "nats a token",
        )
        for result in results
    }


def gates(result: dict[str, Any]) -> list[dict[str, Any]]:
    """The three conditions of a bake, as the manifest keeps them.

    :param result: of the bake: what was measured, and the bounds.
    """
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
            ("rate without its instruction", "after", ">=", result["min_rate"]),
            (
                "shown where it is not called for",
                "false_trigger_rate",
                "<=",
                result["max_false_trigger_rate"],
            ),
            ("accuracy lost elsewhere", "forgotten", "<=", result["max_forgotten"]),
        )
    ]
