"""Quality gates: declared in the configuration, measured on held-out data, checked before publishing.

    gates:
      - {metric: score/reasoning, op: ">=", value: 0.3}
      - {metric: score/memory, op: ">=", value: input/score/memory - 2%, on_fail: rollback}
      - {metric: size/bytes, op: "<", value: start/size/weights * 0.02}

A gate compares one metric with a bound: a number, or another metric as it is or a distance from it:

    bound  = number | metric | metric ("+" | "-") number | metric ("+" | "-") number "%" | metric "*" number

A metric's name has no spaces, but in the path of a file that is a suite.

A percentage is of the size of that metric: `m - 2%` is m − 0.02·|m|, never above m, where m is negative too. What can be
named is in measured.py: what the phase measured and how large its output is; all of its input behind `input/`; all of the
pipeline's first model behind `start/`.
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
NUMBER = r"(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?"
BOUND = re.compile(
    rf"(?P<name>\S*/file:.+?|\S+)(?:\s+(?:(?P<sign>[-+])\s+(?P<number>{NUMBER})(?P<percent>%)?|\*\s+(?P<factor>{NUMBER})))?"
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
        if isinstance(value, str) and (not BOUND.fullmatch(value) or _is_number(value)):
            raise ValueError("allowed: a number, 'metric', 'metric - 0.05', 'metric - 2%', 'metric * 0.9'")
        return value

    @property
    def names(self) -> tuple[str, ...]:
        """The metrics that it compares: one, or two."""
        return (self.metric,) if not isinstance(self.value, str) else (self.metric, self._parts["name"])

    def bound(self, metrics: Mapping[str, float]) -> float:
        """The number that the metric is compared with."""
        if not isinstance(self.value, str):
            return self.value
        parts = self._parts
        base = _metric(parts["name"], metrics)
        if parts["factor"] is not None:
            return base * float(parts["factor"])
        if parts["sign"] is None:
            return base
        distance = float(parts["number"]) * (abs(base) / 100 if parts["percent"] else 1)
        return base + distance if parts["sign"] == "+" else base - distance

    @property
    def _parts(self) -> re.Match[str]:
        match = BOUND.fullmatch(str(self.value))
        assert match is not None  # the validator saw to it
        return match


def check(gates: Sequence[Gate], metrics: Mapping[str, float]) -> list[dict[str, Any]]:
    """Compare every gate with the metrics. A metric that is NaN passes no gate.

    :returns: one plain dict a gate: metric, value, op, bound, passed, on_fail; and `against`, the bound's own words, where
        it is no number.
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
                **({"against": gate.value} if isinstance(gate.value, str) else {}),
            }
        )
    return results


def describe(result: Mapping[str, Any]) -> str:
    """One line for the terminal: `score/memory 0.21 >= 0.27 (start/score/memory * 0.9) failed`."""
    verdict = "passed" if result["passed"] else "failed"
    against = f" ({result['against']})" if "against" in result else ""
    return f"{result['metric']} {result['value']:.4g} {result['op']} {result['bound']:.4g}{against} {verdict}"


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
