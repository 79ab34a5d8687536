"""How much a tensor's error harms the model, and so what each of its codes would cost.

Error is that of the layer's output, squared, a token (hessian.py); harm is KL from the model itself, nats a token. One
factor a tensor turns one into the other: its sensitivity, measured where errors are small enough for it to be one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from components.shared.runtime.tracking.progress import Progress
from components.shared.tasks.item import Item

from ..codecs.encoding import Point
from ..codecs.presets import MENU
from .allocate import Offer
from .evaluator import Trial
from .tensors import Tensors

PROBE_BITS = 2.5  # errors large enough to be seen, small enough for the quadratic regime


def weigh(tensors: Tensors, trial: Trial, items: Sequence[Item], progress: Progress) -> None:
    """Measure the sensitivities of all tensors, one after another: KL on `items` when that tensor alone is coded, for a
    unit of error. 0 for a tensor that plays no part there."""
    probes = {}
    for path, points in tensors.points.items():
        lossy = [point.name for point in points.values() if point.error > 0]
        if lossy and path not in tensors.sensitivity:
            probes[path] = min(lossy, key=lambda name: abs(MENU[name].bits - PROBE_BITS))
    weights = tensors.decoded(probes, trial.dtype)
    reference = trial.reference(items)
    progress.start("measure sensitivities", len(probes))
    for path, probe in probes.items():
        with trial.wearing({path: weights[path]}):
            harm = trial.harm(reference)
        tensors.learnt(path, harm / tensors.error(path, probe))
        progress.step()


def offers(
    points: Mapping[str, Mapping[str, Point]], sensitivity: Mapping[str, float]
) -> dict[str, list[Offer]]:
    """What each tensor may be given, and the harm to expect of it. points: path → name of a code → its bytes and error.

    That a tensor plays no part in what is judged does not say that it plays none anywhere: it must not be ruined. But its
    most faithful code would cost the more the finer the candidates are, and for nothing that was measured. So it counts as
    much as the least sensitive tensor that counts at all, and is coded no more precisely than that one is at any price;
    where no tensor counts, all count alike, and bytes go where they save most error.
    """
    least = min((found for found in sensitivity.values() if found > 0), default=1.0)
    return {
        path: [
            Offer(point.name, point.bytes, point.error * (sensitivity.get(path) or least))
            for point in found.values()
        ]
        for path, found in points.items()
    }
