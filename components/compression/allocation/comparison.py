"""What the allocation is worth: its whole curve of size against retention, and every single codec in its place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from components.shared.evaluation.claims import claim
from components.shared.runtime.tracking.progress import Progress

from ..codecs import registry
from ..codecs.codec import Code
from .allocate import Allocation
from .evaluator import Evaluator, retention
from .tensors import Tensors
from .text import Material

Losses = tuple[np.ndarray, np.ndarray]
"""Nats and tokens of each item's answer, as Evaluator.nll gives them."""

GOALS = ((0.23, 0.94), (0.018, 0.90))
"""Shares of the float32 bytes, and the retention that they ought to keep: what the curve is held against."""


@dataclass(frozen=True)
class RetentionScale:
    """What retention is measured with: items, the model's own loss on them, and the loss of a uniform guess."""

    items: Material
    before: float
    uniform: float

    @property
    def meaningful(self) -> bool:
        """Whether the model knows anything that could be retained: a tenth of a nat a token at least."""
        return self.uniform - self.before >= 0.1

    def retained(self, loss: float) -> float | None:
        """The share of what the model knows that is left at a loss; None where that has no meaning."""
        return retention(self.uniform, self.before, loss) if self.meaningful else None


def evenly_spread(allocations: Sequence[Allocation], points: int) -> list[Allocation]:
    """At most `points` of the allocations, evenly spread in the logarithm of their bytes, both ends among them."""
    if points < 2 or len(allocations) <= points:
        return list(allocations)[:points] if points < 2 else list(allocations)
    sizes = np.log([allocation.bytes for allocation in allocations])
    targets = np.linspace(sizes[0], sizes[-1], points)
    nearest = {int(np.argmin(np.abs(sizes - target))) for target in targets}
    return [allocations[index] for index in sorted(nearest)]


def curve(
    plans: Sequence[Mapping[str, Code]],
    tensors: Tensors,
    evaluator: Evaluator,
    scale: RetentionScale,
    progress: Progress,
    *,
    overhead: int,
    full: int,
) -> dict[str, Any]:
    """Retention or loss at the sizes of the plans (path → code), measured, and the goals: a curve for the report.

    :param overhead: bytes of the artifact that are no code.
    :param full: bytes of the model in float32.
    """
    tensors.prepare(plans)
    progress.start("curve", len(plans))
    losses = []
    for plan in plans:
        with evaluator.with_weights(tensors.decoded(plan, evaluator.dtype)):
            losses.append(evaluator.loss(scale.items))
        progress.step()
    series: dict[str, list[float | None]] = {"retention": [scale.retained(loss) for loss in losses]}
    if None in series["retention"]:
        series = {"loss, nats a token": list(losses)}
    sizes = [overhead + tensors.bytes(plan) for plan in plans]
    points = {"x": sizes, "xlabel": "bytes of the artifact", "ylabel": "select split", "series": series}
    goals = [[round(share * full), retained] for share, retained in GOALS]
    return points | ({"goals": goals} if "retention" in series else {})


def single_preset(
    family: str, paths: Sequence[str], tensors: Tensors, at_least: int
) -> dict[str, Code] | None:
    """The cheapest preset of one family that, given to every tensor, takes no fewer bytes; None where none takes as many.

    Presets are tried from the cheapest on, first on the largest tensor: one that is too cheap there by a tenth is not
    encoded further.
    """
    sizes = {path: tensors.weight(path).size for path in paths}
    largest = max(sizes, key=lambda path: sizes[path])
    for preset in registry.families()[family]:
        expected = tensors.bytes({largest: preset.name}) / sizes[largest] * sum(sizes.values())
        plan: dict[str, Code] = dict.fromkeys(paths, preset.name)
        if expected >= at_least and tensors.bytes(plan) >= at_least:
            return plan
    return None


def controls(
    families: Sequence[str],
    plan: Mapping[str, Code],
    tensors: Tensors,
    evaluator: Evaluator,
    scale: RetentionScale,
    progress: Progress,
) -> list[dict[str, Any]]:
    """The chosen codes against each family alone at no fewer bytes, on the same items, with paired intervals."""
    size = tensors.bytes(plan)
    others = [single_preset(family, list(plan), tensors, size) for family in families]
    progress.start("controls", len(families))
    with evaluator.with_weights(tensors.decoded(plan, evaluator.dtype)):
        ours = evaluator.nll(scale.items)
    results = []
    for other in others:
        if other is not None:
            with evaluator.with_weights(tensors.decoded(other, evaluator.dtype)):
                theirs = evaluator.nll(scale.items)
            name = next(iter(other.values()))
            results.append(
                comparison(
                    f"a code for each tensor loses less than {name} for all, at no more bytes",
                    (f"chosen codes, {size:,} bytes", ours),
                    (f"{name} for all, {tensors.bytes(other):,} bytes", theirs),
                )
            )
        progress.step()
    return results


def comparison(text: str, arm: tuple[str, Losses], control: tuple[str, Losses]) -> dict[str, Any]:
    """A claim that the arm loses less than the control on the same items of the select split: names and losses."""
    (name, (ours, tokens)), (other, (theirs, _)) = arm, control
    unit = "loss on the select split, nats a token"
    scale = tokens.mean()
    return claim(text, name, ours / scale, other, theirs / scale, unit=unit, higher_is_better=False)
