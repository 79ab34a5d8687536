"""Quality gates: declared in the configuration, measured on held-out data, checked before publishing.

    gates:
      - {metric: score/reasoning, op: ">=", value: 0.3}
      - {metric: score/memory, op: ">=", value: input/score/memory - 0.05, on_fail: rollback}

A gate compares one metric of a phase with a number, or with another metric and an offset or a factor. Metrics
are what the phase returned from `get_metrics`, `score/<suite>` for the scores of its output, `stand_in/<name>` for what
stands in for suites (perplexity, bits_per_byte, chat: where `evaluation` asks for them), and all again behind `input/` for
its input.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, field_validator

from ..errors import PhaseFailed
from ..wording import did_you_mean

COMPARE: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}
BOUND = re.compile(
    r"^(?P<name>\S+)(?:\s+(?P<sign>[-+*])\s+(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?))?$"
)


class Gate(BaseModel):
    """One condition on a phase's result, and what happens when it does not hold.

    `stop` publishes nothing and ends the pipeline; `rollback` publishes the phase's input in place of its
    output; `warn` publishes, and the manifest shows the failure.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    metric: str
    op: Literal[">=", "<=", ">", "<"] = ">="
    value: float | str
    on_fail: Literal["stop", "rollback", "warn"] = "stop"

    @field_validator("value")
    @classmethod
    def _readable(cls, value: float | str) -> float | str:
        if isinstance(value, str) and (not BOUND.match(value) or _is_number(value)):
            raise ValueError("allowed: a number, 'metric', 'metric - 0.05', 'metric * 0.9'")
        return value

    def bound(self, metrics: Mapping[str, float]) -> float:
        """The number that the metric is compared with."""
        if not isinstance(self.value, str):
            return self.value
        match = BOUND.match(self.value)
        assert match is not None  # the validator saw to it
        base = _metric(match["name"], metrics)
        if match["sign"] is None:
            return base
        number = float(match["number"])
        return {"-": base - number, "+": base + number, "*": base * number}[match["sign"]]


def check(gates: Sequence[Gate], metrics: Mapping[str, float]) -> list[dict[str, Any]]:
    """Compare every gate with the metrics. A metric that is NaN passes no gate.

    :returns: one plain dict a gate: metric, value, op, bound, passed, on_fail.
    :raises PhaseFailed: a gate names a metric that the phase did not measure.
    """
    results = []
    for gate in gates:
        value, bound = _metric(gate.metric, metrics), gate.bound(metrics)
        results.append(
            {
                "metric": gate.metric,
                "value": value,
                "op": gate.op,
                "bound": bound,
                "passed": COMPARE[gate.op](value, bound),
                "on_fail": gate.on_fail,
            }
        )
    return results


def describe(result: Mapping[str, Any]) -> str:
    """One line for the terminal: `score/memory 0.21 >= 0.3 failed`."""
    verdict = "passed" if result["passed"] else "failed"
    return f"{result['metric']} {result['value']:.4g} {result['op']} {result['bound']:.4g} {verdict}"


def _metric(name: str, metrics: Mapping[str, float]) -> float:
    if name not in metrics:
        raise PhaseFailed(
            f"a gate asks for {name!r}, which this phase did not measure",
            where="gates",
            why=f"measured: {', '.join(sorted(metrics)) or 'nothing'}",
            fix=did_you_mean(name, sorted(metrics), none="no gate where nothing is measured"),
        )
    return float(metrics[name])


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
