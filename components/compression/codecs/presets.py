"""The codes that a tensor may be given, by name.

`bits` is what a code costs a weight of a large normal matrix after entropy coding, codebooks aside; it only decides
what is worth trying. What a code really costs is measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal, get_args


@dataclass(frozen=True)
class Dish:
    """One codec with its settings. `codec` names the decoder that travels with the artifact."""

    codec: str
    bits: float
    settings: Mapping[str, float] = field(default_factory=dict)

    @property
    def family(self) -> str:
        """What people call it: the codec, or "uniform" for ectcq without a trellis."""
        return "uniform" if self.settings.get("memory") == 0 else self.codec


EXACT = "exact"  # for tensors that already are ternary: no error, about 1.57 bits

MENU: Mapping[str, Dish] = MappingProxyType(
    {
        "int8": Dish("scalar", 8.0, {"levels": 255, "group": 64}),
        "int4": Dish("scalar", 4.0, {"levels": 15, "group": 64}),
        "uniform 1/16": Dish("ectcq", 6.05, {"step": 1 / 16, "memory": 0}),
        "uniform 1/8": Dish("ectcq", 5.05, {"step": 1 / 8, "memory": 0}),
        "uniform 1/4": Dish("ectcq", 4.05, {"step": 1 / 4, "memory": 0}),
        "uniform 1/2": Dish("ectcq", 3.05, {"step": 1 / 2, "memory": 0}),
        "uniform 3/4": Dish("ectcq", 2.5, {"step": 3 / 4, "memory": 0}),
        "uniform 1": Dish("ectcq", 2.05, {"step": 1.0, "memory": 0}),
        "uniform 3/2": Dish("ectcq", 1.47, {"step": 3 / 2, "memory": 0}),
        "uniform 2": Dish("ectcq", 1.03, {"step": 2.0, "memory": 0}),
        "uniform 3": Dish("ectcq", 0.27, {"step": 3.0, "memory": 0}),
        "ectcq 6": Dish("ectcq", 6.0, {"step": 0.067, "memory": 8}),
        "ectcq 5": Dish("ectcq", 5.0, {"step": 0.135, "memory": 8}),
        "ectcq 4": Dish("ectcq", 4.0, {"step": 0.27, "memory": 8}),
        "ectcq 3": Dish("ectcq", 3.0, {"step": 0.555, "memory": 8}),
        "ectcq 2.5": Dish("ectcq", 2.5, {"step": 0.8, "memory": 8}),
        "ectcq 2": Dish("ectcq", 2.0, {"step": 1.18, "memory": 8}),
        "ectcq 1.585": Dish("ectcq", 1.585, {"step": 1.6, "memory": 8}),
        "ectcq 1": Dish("ectcq", 1.0, {"step": 2.45, "memory": 8}),
        "ectcq 0.7": Dish("ectcq", 0.7, {"step": 1.8, "memory": 8, "price": 0.16}),
        "ectcq 0.4": Dish("ectcq", 0.4, {"step": 2.2, "memory": 8, "price": 0.16}),
        "ectcq 0.27": Dish("ectcq", 0.27, {"step": 3.0, "memory": 8}),
        "ectcq 2, 8 states": Dish("ectcq", 2.0, {"step": 1.18, "memory": 3}),
        "trellis 4": Dish("trellis", 4.0, {"bits": 4, "memory": 12}),
        "trellis 3": Dish("trellis", 3.0, {"bits": 3, "memory": 12}),
        "trellis 2": Dish("trellis", 2.0, {"bits": 2, "memory": 12}),
        "trellis 1": Dish("trellis", 1.0, {"bits": 1, "memory": 12}),
        "trellis 2, L=16": Dish("trellis", 2.0, {"bits": 2, "memory": 16}),
        "hadamard trellis 3": Dish("hadamard+trellis", 3.0, {"bits": 3, "memory": 12, "group": 256}),
        "hadamard trellis 2": Dish("hadamard+trellis", 2.0, {"bits": 2, "memory": 12, "group": 256}),
        "hadamard ectcq 4": Dish("hadamard+ectcq", 4.0, {"step": 0.27, "memory": 8}),
        "hadamard ectcq 3": Dish("hadamard+ectcq", 3.0, {"step": 0.555, "memory": 8}),
        "hadamard ectcq 2": Dish("hadamard+ectcq", 2.0, {"step": 1.18, "memory": 8}),
        "hadamard ectcq 1.585": Dish("hadamard+ectcq", 1.585, {"step": 1.6, "memory": 8}),
        "hadamard vptq 2": Dish("hadamard+vptq", 2.0, {"length": 4, "centroids": 256}),
        "seedlm 4": Dish("seedlm", 3.65, {"block": 8, "latent": 3, "beside": 0}),
        "seedlm 3": Dish("seedlm", 2.75, {"block": 12, "latent": 4, "beside": 0}),
        "seedlm 2": Dish("seedlm", 1.85, {"block": 16, "latent": 3, "beside": 0}),
        "seedlm 1.5": Dish("seedlm", 1.4, {"block": 24, "latent": 4, "beside": 0}),
        "vptq 4": Dish("vptq", 4.0, {"length": 2, "centroids": 256}),
        "vptq 3": Dish("vptq", 3.0, {"length": 2, "centroids": 64}),
        "vptq 2": Dish("vptq", 2.0, {"length": 4, "centroids": 256}),
        "vptq 3, sized": Dish("vptq", 3.0, {"bits": 3.0}),
        "vptq 2, sized": Dish("vptq", 2.0, {"bits": 2.0}),
        "vptq 1.5": Dish("vptq", 1.5, {"length": 4, "centroids": 64}),
        "vptq 1": Dish("vptq", 1.0, {"length": 4, "centroids": 16}),
        "hyper 1600": Dish("hyper", 5.3, {"points": 1600, "classes": 1}),
        "hyper 256": Dish("hyper", 4.0, {"points": 256, "classes": 1}),
        "hyper 64": Dish("hyper", 3.0, {"points": 64, "classes": 1}),
        "hyper 16": Dish("hyper", 2.0, {"points": 16, "classes": 1}),
    }
)

CHAIN = "seedlm 4+vptq 2+hyper 1600"  # stage after stage, each on what the one before decodes to
Family = Literal["uniform", "seedlm", "vptq", "hyper"]
FAMILIES: tuple[Family, ...] = get_args(Family)
