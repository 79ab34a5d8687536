"""What a tensorwise merge method is given: one tensor of every model, and the dials.

Every tensor is float32: models are stored in bfloat16 or float32 and added up in float32. Weights sum to one,
so that a method never has to ask whether to normalise; the strength of the whole change is a dial of its own
(`scale`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True)
class Parts:
    """One tensor of the base and of every parent that has a say about it.

    name: the tensor's name in the state dict.
    base: the trunk's tensor, or None where the parents share no trunk.
    parents: float32 tensors of one shape.
    weights: one per parent, each ≥ 0, summing to 1.
    indices: the parents' positions in the run's list of models (the key of DARE's masks).
    thresholds: TIES's magnitude threshold of each parent at the genome's density, over its whole task vector.
    grams: each parent's XᵀX (in, in) for a linear layer's weight (out, in); None for any other tensor.
    """

    name: str
    base: Tensor | None
    parents: list[Tensor]
    weights: list[float]
    indices: list[int] = field(default_factory=list)
    thresholds: list[float] | None = None
    grams: list[Tensor] | None = None

    @property
    def origin(self) -> Tensor:
        """The base, for the methods that cannot do without. Raises ValueError where there is none."""
        if self.base is None:
            raise ValueError(f"{self.name}: a task vector needs the base that the parents were trained from")
        return self.base

    def task_vectors(self) -> list[Tensor]:
        """parent − base for every parent (task vectors, arXiv 2212.04089)."""
        return [parent - self.origin for parent in self.parents]


@dataclass(frozen=True)
class Dials:
    """The numbers of a genome that are the same for every tensor.

    density: share of a task vector that is kept (TIES, DARE), in (0, 1].
    scale: λ, the length of the merged step away from the base; 1 is the step itself, 0 the base.
    alpha: RegMean's factor on the Grams' off-diagonals, in [0, 1].
    seed: key of DARE's masks.
    """

    density: float = 1.0
    scale: float = 1.0
    alpha: float = 0.9
    seed: int = 0


@dataclass(frozen=True)
class Method:
    """A merge method: its function, its paper, and which genes of a genome it reads."""

    name: str
    pretty_name: str
    reference: str
    genes: frozenset[str]  # of: weights, scales, density, alpha, path, hops
    needs_base: bool
    needs_grams: bool
    merge: Callable[[Parts, Dials], Tensor]
