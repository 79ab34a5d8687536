"""What the choice is worth: its whole curve of size against retention, and every single codec in its place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from components.shared.evaluation.claims import claim
from components.shared.runtime.tracking.progress import Progress
from components.shared.tasks.item import Item

from ..codecs.presets import MENU
from .allocate import Choice
from .evaluator import Trial, retention
from .tensors import Tensors

Losses = tuple[np.ndarray, np.ndarray]
"""Nats and tokens of each item's answer, as Trial.nll gives them."""

GOALS = ((0.23, 0.94), (0.018, 0.90))
"""Shares of the float32 bytes, and the retention that they ought to keep: what the curve is held against."""


@dataclass(frozen=True)
class Scale:
    """What retention is measured with: items, the model's own loss on them, and the loss of a uniform guess."""

    items: Sequence[Item]
    before: float
    uniform: float

    @property
    def meaningful(self) -> bool:
        """Whether the model knows anything that could be retained: a tenth of a nat a token at least."""
        return self.uniform - self.before >= 0.1

    def retained(self, loss: float) -> float | None:
        """None where that has no meaning."""
        return retention(self.uniform, self.before, loss) if self.meaningful else None


def thin(choices: Sequence[Choice], points: int) -> list[Choice]:
    """At most `points` of the choices, evenly spread in the logarithm of their bytes, both ends among them."""
    if points < 2 or len(choices) <= points:
        return list(choices)[:points] if points < 2 else list(choices)
    sizes = np.log([choice.bytes for choice in choices])
    wanted = np.linspace(sizes[0], sizes[-1], points)
    return [choices[at] for at in sorted({int(np.argmin(np.abs(sizes - size))) for size in wanted})]


def curve(
    choices: Sequence[Choice],
    tensors: Tensors,
    trial: Trial,
    scale: Scale,
    progress: Progress,
    *,
    overhead: int,
    full: int,
) -> dict[str, Any]:
    """Retention or loss at the sizes of the choices, measured, and the goals: a curve for the report.

    :param overhead: bytes of the artifact that are no code.
    :param full: bytes of the model in float32.
    """
    tensors.prepare(choice.names for choice in choices)
    progress.start("curve", len(choices))
    losses = []
    for choice in choices:
        with trial.wearing(tensors.decoded(choice.names, trial.dtype)):
            losses.append(trial.loss(scale.items))
        progress.step()
    series: dict[str, list[float | None]] = {"retention": [scale.retained(loss) for loss in losses]}
    if None in series["retention"]:
        series = {"loss, nats a token": list(losses)}
    sizes = [overhead + tensors.bytes(choice.names) for choice in choices]
    found = {"x": sizes, "xlabel": "bytes of the artifact", "ylabel": "select split", "series": series}
    if "retention" in series:
        found["goals"] = [[round(share * full), kept] for share, kept in GOALS]
    return found


def single(family: str, paths: Sequence[str], tensors: Tensors, at_least: int) -> dict[str, str] | None:
    """The cheapest code of one family that, given to every tensor, takes no fewer bytes; None where none takes as many.

    Codes are tried from the cheapest on, first on the largest tensor: one that is too cheap there by a tenth is not
    encoded further.
    """
    names = sorted(
        (name for name, dish in MENU.items() if dish.family == family), key=lambda name: MENU[name].bits
    )
    sizes = {path: tensors.weight(path).size for path in paths}
    largest = max(sizes, key=lambda path: sizes[path])
    for name in names:
        expected = tensors.bytes({largest: name}) / sizes[largest] * sum(sizes.values())
        plan = dict.fromkeys(paths, name)
        if expected >= at_least and tensors.bytes(plan) >= at_least:
            return plan
    return None


def controls(
    families: Sequence[str],
    plan: dict[str, str],
    tensors: Tensors,
    trial: Trial,
    scale: Scale,
    progress: Progress,
) -> list[dict[str, Any]]:
    """The chosen codes against each family alone at no fewer bytes, on the same items, with paired intervals."""
    size = tensors.bytes(plan)
    others = [single(family, list(plan), tensors, size) for family in families]
    progress.start("controls", len(families))
    with trial.wearing(tensors.decoded(plan, trial.dtype)):
        ours = trial.nll(scale.items)
    results = []
    for other in others:
        if other is not None:
            with trial.wearing(tensors.decoded(other, trial.dtype)):
                theirs = trial.nll(scale.items)
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
