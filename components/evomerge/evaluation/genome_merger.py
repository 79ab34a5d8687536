"""From a genome to the tensors of the merged model, a few rows at a time, in float32.

The parents lie where they were loaded, which on a CPU is in their mapped files; only the rows that are being merged are
brought to float32.

The parents may be variants of one network, each with modules of its own, closed by a gate of 0 in those that
do not have them. So there are three kinds of tensors:

- shared ones, which every parent (and the base, where there is one) has: the genome's method;
- gates (`….gate`): their weighted sum, closed ones counted, times the group's scale, so that a module does
  as much as its owners weigh. Masks and sign elections have no meaning for a gate;
- the other tensors of such a module: the mean over their owners. Who lacks a module has no say in its inside.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from components.shared.merging.checkpoint.operand import StoredTensor
from components.shared.merging.inputs import Diverged, MergeInputs, MergeParameters, TensorInMemory
from components.shared.merging.layer_groups import LayerStack, layer_stack
from components.shared.merging.magnitude import threshold
from components.shared.merging.method import MergeMethod
from components.shared.merging.methods.averages.linear import linear
from components.shared.merging.methods.layers.frankenmerge import LayerPath
from components.shared.merging.registry import merge_method
from components.shared.merging.streaming.pieces import Pieces

from ..search.genome import UNIT, Genome
from ..search.space import SearchSpace

GATE = "gate"
# What writes into the residual stream of a pre-norm layer, in the names of Llama and its relatives.
RESIDUAL_WRITERS = ("o_proj.weight", "o_proj.bias", "down_proj.weight", "down_proj.bias")
WHOLE = 1 << 22
"""Numbers of a tensor that is merged whole: 16 MB of float32 a model. Larger matrices are merged in pieces of as many."""


class Piece(NamedTuple):
    """Some of a tensor of the merged model.

    :param first: the row that `numbers` begin at, in the tensor as (rows, width); None: they are the whole tensor.
    :param numbers: float32, (rows, width) or of the tensor's shape.
    """

    name: str
    first: int | None
    numbers: Tensor

    def write(self, target: Tensor) -> None:
        """Put it in its place, rounded to the target's type.

        :param target: the tensor of this name, contiguous.
        """
        if self.first is None:
            target.copy_(self.numbers)
        else:
            rows = target.view(-1, target.shape[-1])
            rows[self.first : self.first + len(self.numbers)].copy_(self.numbers)


@dataclass
class ParentTensors:
    """The tensors of what is merged: state dicts of one set of names and shapes.

    :param parents: as stored (bfloat16 or float32), every module present.
    :param base: the trunk's tensors, or None; it may lack modules that a parent has.
    :param owned: the names that each parent has of its own (all, unless it got modules that it lacked).
    :param grams: of each parent, by the name of the linear weight, (in, in); None where a parent came without.
    :raises ValueError: names or shapes differ.
    """

    parents: Sequence[Mapping[str, Tensor]]
    base: Mapping[str, Tensor] | None = None
    owned: Sequence[frozenset[str]] = ()
    grams: Sequence[Mapping[str, Tensor]] | None = None
    stack: LayerStack = field(init=False)

    def __post_init__(self) -> None:
        names = set(self.parents[0])
        for index, parent in enumerate(self.parents):
            if set(parent) != names:
                raise ValueError(f"parent {index} has other tensors: {_few(names ^ set(parent))}")
            wrong = [name for name in parent if parent[name].shape != self.parents[0][name].shape]
            if wrong:
                raise ValueError(f"parent {index} has other shapes in {_few(wrong)}")
        if self.base is not None:
            wrong = [
                name
                for name in self.base
                if name not in names or self.base[name].shape != self.parents[0][name].shape
            ]
            if wrong:
                raise ValueError(f"the base does not fit the parents: {_few(wrong)}")
        if not self.owned:
            self.owned = [frozenset(names)] * len(self.parents)
        self.stack = layer_stack(names)

    def owners(self, name: str) -> list[int]:
        """The parents that have this tensor of their own."""
        return [index for index, names in enumerate(self.owned) if name in names]

    def is_shared(self, name: str) -> bool:
        """Whether every parent has this tensor of its own, and the base too, where there is one."""
        return len(self.owners(name)) == len(self.parents) and (self.base is None or name in self.base)

    def outer(self) -> list[str]:
        """The names of the tensors outside the layers."""
        return [name for name in self.parents[0] if self.stack.locate(name) is None]


def _few(names: Iterable[str]) -> str:
    shown = sorted(names)
    return ", ".join(shown[:3]) + (f" and {len(shown) - 3} more" if len(shown) > 3 else "")


class GenomeMerger:
    """Merges the same models again and again; keeps TIES's thresholds, which depend on parent and density alone.

    :param space: that the genomes are of.
    :param layer_groups: runs of layers with weights of their own.
    :param seed: of random masks.
    """

    def __init__(self, models: ParentTensors, space: SearchSpace, *, layer_groups: int, seed: int) -> None:
        self.models, self.space, self.layer_groups, self.seed = models, space, layer_groups, seed
        self._thresholds: dict[tuple[int, int], float] = {}

    def merged(self, genome: Genome) -> Iterator[tuple[str, Tensor]]:
        """(name, float32 tensor) of every tensor of the merged model, whole; otherwise as `pieces`."""
        whole: dict[str, Tensor] = {}
        for piece in self.pieces(genome):
            if piece.first is None:
                whole[piece.name] = piece.numbers
            else:
                if piece.name not in whole:
                    whole[piece.name] = torch.empty(self.models.parents[0][piece.name].shape)
                piece.write(whole[piece.name])
        yield from whole.items()

    def pieces(self, genome: Genome) -> Iterator[Piece]:
        """All of the merged model, tensor after tensor, each in the order of its rows.

        A path genome yields as many layers as its path has.

        :raises Diverged: numbers are not finite.
        """
        for piece in self._stacked(genome) if genome.path else self._weighted(genome):
            if not torch.isfinite(piece.numbers).all():
                raise Diverged(f"{piece.name} is not finite after {genome.method}")
            yield piece

    def _weighted(self, genome: Genome) -> Iterator[Piece]:
        for name in self.models.parents[0]:
            yield from self._pieces_of(name, genome)

    def _pieces_of(self, name: str, genome: Genome) -> Iterator[Piece]:
        """One tensor, merged as the genome says."""
        models = self.models
        group = self.models.stack.group(name, self.layer_groups)
        weights, scale = genome.shares(group), genome.scale(group) / UNIT
        stored = [parent[name] for parent in models.parents]
        if not models.is_shared(name):
            tensors = [tensor.float() for tensor in stored]
            yield Piece(name, None, self._module_tensor(name, tensors, weights, scale))
            return
        if not stored[0].numel():
            yield Piece(name, None, stored[0].float())
            return
        method = merge_method(genome.method)
        base = None if models.base is None or method.base == "unused" else models.base[name]
        parameters = self._parameters(method, name, genome, weights, scale)
        grams = self._grams(name) if method.needs_grams else None
        shape, small = stored[0].shape, stored[0].numel() <= WHOLE
        if small or grams is not None or len(shape) < 2:
            inputs = MergeInputs(
                [tensor.float() for tensor in stored], None if base is None else base.float(), grams=grams
            )
            surveyed = method.survey(TensorInMemory(inputs), parameters)
            yield Piece(name, None, method.merge(inputs, parameters, surveyed))
            return
        operands = [StoredTensor(tensor.reshape(-1), shape[-1]) for tensor in stored]
        of_base = None if base is None else StoredTensor(base.reshape(-1), shape[-1])
        pieces = Pieces(shape, operands, of_base, None, threads=1, whole=method.whole_rows, size=WHOLE)
        surveyed = method.survey(pieces, parameters)
        for first, last in pieces.spans:
            yield Piece(name, first, method.merge(pieces.piece(first, last), parameters, surveyed))

    def _parameters(
        self, method: MergeMethod, name: str, genome: Genome, weights: list[float], scale: float
    ) -> MergeParameters:
        """The method's parameters: those that are genes as the genome has them, the others at their defaults."""
        scalars = {"scales": scale, "density": genome.density / UNIT, "alpha": genome.alpha / UNIT}
        own: list[dict[str, float]] = [{} for _ in weights]
        common = {}
        for parameter in method.parameters:
            value = scalars.get(parameter.gene or "", parameter.default)
            if not parameter.per_model:
                common[parameter.name] = value
                continue
            for parent, weight in zip(own, weights, strict=True):
                parent[parameter.name] = weight if parameter.gene == "weights" else value
        thresholds = self._thresholds_at(genome.density) if method.trims_model else None
        return MergeParameters(name, own, common, self.seed, thresholds)

    def _module_tensor(self, name: str, tensors: list[Tensor], weights: list[float], scale: float) -> Tensor:
        """A tensor of a module that only some models have; see the top of this file."""
        if name.rsplit(".", 1)[-1] == GATE:
            return linear(tensors, weights) * scale
        owners = self.models.owners(name)
        total = sum(weights[i] for i in owners)
        shares = [weights[i] / total if total else 1 / len(owners) for i in owners]
        return linear([tensors[i] for i in owners], shares)

    def _grams(self, name: str) -> list[Tensor] | None:
        grams = self.models.grams
        if grams is None or any(name not in own for own in grams):
            return None
        return [own[name] for own in grams]

    def _thresholds_at(self, density: int) -> list[float]:
        return [self._threshold(parent, density) for parent in range(len(self.models.parents))]

    def _threshold(self, parent: int, density: int) -> float:
        key = (parent, density)
        if key not in self._thresholds:
            self._thresholds[key] = threshold(lambda: self._task_vector(parent), density / UNIT)
        return self._thresholds[key]

    def _task_vector(self, parent: int) -> Iterator[Tensor]:
        base = self.models.base
        if base is None:
            raise ValueError("a task vector needs the base that the parents were trained from")
        for name, tensor in self.models.parents[parent].items():
            if self.models.is_shared(name):
                flat, start = tensor.reshape(-1), base[name].reshape(-1)
                for first in range(0, len(flat), WHOLE):
                    yield flat[first : first + WHOLE].float() - start[first : first + WHOLE].float()

    def _stacked(self, genome: Genome) -> Iterator[Piece]:
        """Layers taken whole along the path; what is not a layer is the parents' weighted mean."""
        models, stack = self.models, self.models.stack
        path = self.space.layer_path(genome)
        divisors: list[float] = merge_method(genome.method).implementation(path, self._scales(genome, path))
        plain = Genome("linear", genome.weights)
        for name in models.outer():
            yield from self._pieces_of(name, plain)
        for position, (parent, layer) in enumerate(path):
            for name, tensor in models.parents[parent].items():
                location = stack.locate(name)
                if location is None or location[0] != layer:
                    continue
                weight = tensor.float()
                if location[1].endswith(RESIDUAL_WRITERS):
                    weight = weight / divisors[position]
                yield Piece(stack.name(position, location[1]), None, weight)

    def _scales(self, genome: Genome, path: LayerPath) -> list[float]:
        if not genome.hops:
            return [1.0] * len(path)
        return [hop / UNIT for hop, on in zip(genome.hops, genome.path, strict=True) if on]
