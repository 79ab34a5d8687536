"""Where a model's layers are, read from the names of its tensors: `model.layers.7.mlp.down_proj.weight`."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

NUMBERED = re.compile(r"^(?P<prefix>(?:[^.\d][^.]*\.)+)(?P<index>\d+)\.(?P<rest>.+)$")


@dataclass(frozen=True)
class LayerStack:
    """The numbered layers of a model.

    :param prefix: what stands before a layer's number ("model.layers.").
    :param count: how many layers; 0 where there are none.
    """

    prefix: str
    count: int

    def locate(self, name: str) -> tuple[int, str] | None:
        """(layer, name within the layer) of a tensor, or None for one outside the layers."""
        match = NUMBERED.match(name)
        if match is None or match["prefix"] != self.prefix:
            return None
        return int(match["index"]), match["rest"]

    def name(self, layer: int, rest: str) -> str:
        """The tensor's name from its layer and its name within the layer."""
        return f"{self.prefix}{layer}.{rest}"

    def group(self, name: str, layer_groups: int) -> int:
        """The row of weights of a tensor: layers in `layer_groups` even runs, everything else in the one after."""
        layer = self.locate(name)
        return layer_groups if layer is None else layer[0] * layer_groups // self.count


def layer_stack(names: Iterable[str]) -> LayerStack:
    """The layers below the numbered prefix with the most tensors.

    :param names: of all tensors.
    :raises ValueError: its layers are not numbered 0 … count − 1.
    """
    matches = [match for name in names if (match := NUMBERED.match(name))]
    if not matches:
        return LayerStack("", 0)
    prefix = Counter(match["prefix"] for match in matches).most_common(1)[0][0]
    layers = {int(match["index"]) for match in matches if match["prefix"] == prefix}
    if layers != set(range(len(layers))):
        raise ValueError(f"the layers {prefix}* are numbered {sorted(layers)}, not 0 to {len(layers) - 1}")
    return LayerStack(prefix, len(layers))
