"""What a merge method is given: the same rows of one tensor of every model, and the numbers of the merge.

Tensors are float32: models are stored in bfloat16 or float32 and added up in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from torch import Tensor

T = TypeVar("T")


class Diverged(ArithmeticError):
    """A merged tensor holds numbers that are not finite."""


@dataclass(frozen=True)
class MergeInputs:
    """One tensor of every model, or a run of its rows.

    :param parents: N float32 tensors of one shape, a row along the last dimension; not to be written to.
    :param base: the same of the model that the parents were trained from; None where there is none, or it is not read.
    :param start: the first entry's position in the flat tensor.
    :param grams: each parent's XᵀX (in, in) for a linear layer's weight (out, in); None for any other tensor.
    """

    parents: list[Tensor]
    base: Tensor | None = None
    start: int = 0
    grams: list[Tensor] | None = None

    @property
    def required_base(self) -> Tensor:
        """The base, for the methods that cannot do without.

        :raises ValueError: there is none.
        """
        if self.base is None:
            raise ValueError("a task vector needs the base that the parents were trained from")
        return self.base

    def task_vectors(self) -> list[Tensor]:
        """The difference parent − base of every parent (task vectors, arXiv 2212.04089)."""
        base = self.required_base
        return [parent - base for parent in self.parents]


@dataclass(frozen=True)
class MergeParameters:
    """The numbers of one tensor's merge.

    :param tensor: the tensor's name in the state dict; with the seed it keys random masks.
    :param own: of each parent, the parameters that are its own, by name.
    :param common: the parameters that all parents share.
    :param seed: of random masks.
    :param thresholds: each parent's least magnitude that is kept, over its whole task vector; None: of each tensor.
    """

    tensor: str
    own: Sequence[Mapping[str, float]]
    common: Mapping[str, float]
    seed: int = 0
    thresholds: Sequence[float] | None = None

    def __getitem__(self, name: str) -> float:
        """A parameter that all parents share."""
        return self.common[name]

    def each(self, name: str) -> list[float]:
        """A parameter of every parent, in their order."""
        return [parent[name] for parent in self.own]

    @property
    def weights(self) -> list[float]:
        """Every parent's weight."""
        return self.each("weight")


class WholeTensor(Protocol):
    """One tensor of every model, for what has to be known of it as a whole; read as often as needed, in pieces."""

    def map(self, work: Callable[[MergeInputs], T], /) -> Iterator[T]:
        """The results of `work` for every piece, in order."""
        ...

    def task_vector(self, parent: int, /) -> Iterator[Tensor]:
        """One parent's task vector, piece by piece."""
        ...

    def each_parent(self, work: Callable[[int], T], /) -> list[T]:
        """The results of `work` for every parent's number, in order."""
        ...


@dataclass(frozen=True)
class TensorInMemory:
    """A whole tensor as a single piece."""

    inputs: MergeInputs

    def map(self, work: Callable[[MergeInputs], T]) -> Iterator[T]:
        """The one result."""
        yield work(self.inputs)

    def task_vector(self, parent: int) -> Iterator[Tensor]:
        """The difference parent − base, whole."""
        yield self.inputs.parents[parent] - self.inputs.required_base

    def each_parent(self, work: Callable[[int], T]) -> list[T]:
        """One after the other."""
        return [work(parent) for parent in range(len(self.inputs.parents))]
