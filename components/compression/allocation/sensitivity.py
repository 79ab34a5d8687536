"""How much an error in a tensor changes what the model says, and so what each of its codes would cost.

Error is that of the layer's output, squared, a token (hessian.py); the change is the KL from the uncompressed model, nats
a token. One factor a tensor turns one into the other: its sensitivity, measured where errors are small enough for it to
be one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from components.shared.runtime.tracking.progress import Progress
from components.shared.tasks.item import Item

from ..codecs import registry
from ..codecs.encoding import RateDistortion
from .allocate import RatePoint
from .evaluator import Evaluator
from .tensors import Tensors

PROBE_BITS = 2.5  # errors large enough to be seen, small enough for the quadratic regime


def measure_sensitivities(
    tensors: Tensors, evaluator: Evaluator, items: Sequence[Item], progress: Progress
) -> None:
    """Measure the sensitivities of all tensors, one after another.

    A sensitivity is the KL on `items` when that tensor alone is coded, for a unit of error: 0 for a tensor that plays no
    part there.
    """
    probes = {}
    for path, points in tensors.points.items():
        lossy = [name for name, point in points.items() if point.error > 0]
        if lossy and path not in tensors.sensitivity:
            probes[path] = min(lossy, key=lambda name: abs(registry.preset(name).bits - PROBE_BITS))
    weights = tensors.decoded(probes, evaluator.dtype)
    reference = evaluator.reference(items)
    progress.start("measure sensitivities", len(probes))
    for path, probe in probes.items():
        with evaluator.with_weights({path: weights[path]}):
            rise = evaluator.kl_increase(reference)
        tensors.record_sensitivity(path, rise / tensors.error(path, probe))
        progress.step()


def rate_points(
    points: Mapping[str, Mapping[str, RateDistortion]], sensitivity: Mapping[str, float]
) -> dict[str, list[RatePoint]]:
    """What each tensor may be given, and the rise of the KL to expect of it.

    That a tensor plays no part in what is judged does not say that it plays none anywhere: it must not be ruined. But its
    most faithful code would cost the more the finer the candidates are, and for nothing that was measured. So it counts as
    much as the least sensitive tensor that counts at all, and is coded no more precisely than that one is at any price;
    where no tensor counts, all count alike, and bytes go where they save most error.

    :param points: path → preset → its bytes and error.
    """
    least = min((factor for factor in sensitivity.values() if factor > 0), default=1.0)
    return {
        path: [
            RatePoint(name, point.bytes, point.error * (sensitivity.get(path) or least))
            for name, point in of_tensor.items()
        ]
        for path, of_tensor in points.items()
    }
