"""What the merged model consists of: each tensor's name and shape, and from which tensor of which model it is merged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from components.shared.runtime.errors import InputError

from ..checkpoint import families
from ..checkpoint.mapped_model import CARRIED, MappedModel
from ..inputs import MergeParameters
from ..layer_groups import LayerStack, layer_stack
from . import compatibility
from .recipe import LayerBlock, Recipe
from .vocabulary import Vocabulary


@dataclass(frozen=True)
class Target:
    """A tensor of the merged model.

    :param shape: of the merged tensor.
    :param models: what it is merged from: numbers of the parents; the base, where there is one, is the last model of all.
    :param names: of the tensor in each of them.
    :param base: its name in the base; None without one.
    :param numbers: of the merge.
    :param by_token: its rows are tokens of vocabularies that differ.
    :param carried: it holds whole numbers, which are taken over.
    """

    name: str
    shape: tuple[int, ...]
    models: tuple[int, ...]
    names: tuple[str, ...]
    base: str | None
    numbers: MergeParameters
    by_token: bool
    carried: bool


class Plan:
    """The tensors of the merged model, in the order in which they lie in its file.

    :param models: the parents, and the base after them.
    :param vocabulary: the merged one, where vocabularies differ.
    :raises InputError: the models do not fit the recipe or each other.
    """

    def __init__(self, recipe: Recipe, models: Sequence[MappedModel], vocabulary: Vocabulary | None) -> None:
        compatibility.one_architecture(models)
        self.recipe, self.models, self.vocabulary = recipe, models, vocabulary
        # The output layer is there where a model has one of its own; a model without one reads its embedding there.
        self.head = next((model.head for model in models if model.head), None)
        self._names = [self._names_of(model) for model in models]
        self.stacks = [_stack(names, model) for names, model in zip(self._names, models, strict=True)]
        self._rests_of = [
            _by_layer(names, stack) for names, stack in zip(self._names, self.stacks, strict=True)
        ]
        self.layers = recipe.blocks[-1].last if recipe.blocks else self.stacks[0].count
        self.targets = sorted(self._targets(), key=lambda target: target.name)

    @property
    def unties(self) -> bool:
        """Whether the merged model has an output layer although a model's configuration says that it is its embedding."""
        return self.head is not None and any(model.ties for model in self.models)

    def origins(self) -> list[int]:
        """Of each layer of the merged model, the layer of the first model that it comes from."""
        return [self._sources(layer)[0][1] for layer in range(self.layers)]

    def name_in(self, number: int, target: Target) -> str:
        """What any model's file calls a tensor outside of the layers."""
        return self._stored(number, target.name)

    def _names_of(self, model: MappedModel) -> set[str]:
        names = set(model.tensors)
        own = families.head_of(names)
        if own and (self.head is None or not model.head):
            names.discard(own)
        if self.head and not model.head and model.ties and families.embedding_of(names):
            names.add(self.head)
        return names

    def _stored(self, number: int, name: str) -> str:
        """What a model's file calls a tensor: the embedding, for the output layer that is one."""
        model = self.models[number]
        if name == self.head and name != model.head:
            return families.embedding_of(model.tensors) or name
        return name

    def _targets(self) -> Iterator[Target]:
        outer = [
            {name for name in names if stack.locate(name) is None}
            for names, stack in zip(self._names, self.stacks, strict=True)
        ]
        for own, model in zip(outer[1:], self.models[1:], strict=True):
            compatibility.same_names(outer[0], own, model)
        if not self.recipe.blocks:
            for names, model in zip(self._names[1:], self.models[1:], strict=True):
                compatibility.same_names(self._names[0], names, model)
        for name in outer[0]:
            block = self.recipe.block_of(name, None)
            parents = tuple(self.recipe.parents_of(block))
            yield self._target(name, None, parents, tuple(name for _ in parents), name)
        for layer in range(self.layers):
            sources = self._sources(layer)
            numbers = tuple(number for number, _ in sources)
            rests = [self._rests(number, source) for number, source in sources]
            for own, number in zip(rests[1:], numbers[1:], strict=True):
                compatibility.same_names(rests[0], own, self.models[number])
            for rest in rests[0]:
                stored = tuple(self.stacks[number].name(source, rest) for number, source in sources)
                in_base = self.stacks[-1].name(self._base_layer(layer), rest)
                yield self._target(self.stacks[0].name(layer, rest), layer, numbers, stored, in_base)

    def _sources(self, layer: int) -> list[tuple[int, int]]:
        """(model, layer) of everything that a layer is merged from."""
        block = self.recipe.block_of("", layer)
        parents = self.recipe.parents_of(block)
        if block is None or not block.starts:
            return [(number, layer) for number in parents]
        return [
            (number, start + layer - block.first) for number, start in zip(parents, block.starts, strict=True)
        ]

    def _base_layer(self, layer: int) -> int:
        block: LayerBlock | None = self.recipe.block_of("", layer)
        return layer if block is None or block.base_start is None else block.base_start + layer - block.first

    def _rests(self, number: int, layer: int) -> set[str]:
        own = self._rests_of[number].get(layer)
        if not own:
            raise InputError(
                f"there is no layer {layer}",
                where=str(self.models[number].folder),
                why=f"it has {self.stacks[number].count} layers, numbered from 0",
                fix="give a layer_range within them",
            )
        return own

    def _target(
        self, name: str, layer: int | None, parents: tuple[int, ...], names: tuple[str, ...], in_base: str
    ) -> Target:
        recipe = self.recipe
        names = tuple(self._stored(number, own) for number, own in zip(parents, names, strict=True))
        base = None
        models, everything = [self.models[number] for number in parents], list(names)
        if recipe.base is not None:
            base = self._stored(len(self.models) - 1, in_base)
            if base not in self.models[-1].tensors:
                raise InputError(
                    "a model lacks tensors",
                    where=str(self.models[-1].folder),
                    why=base,
                    fix=compatibility.ALIKE,
                )
            models, everything = [*models, self.models[-1]], [*names, base]
        by_token = self.vocabulary is not None and layer is None and is_by_token(everything, models)
        compatibility.same_shape(everything, models, by_token=by_token)
        first = models[0].tensors[names[0]]
        shape = (self.vocabulary.rows, *first.shape[1:]) if by_token and self.vocabulary else first.shape
        numbers = recipe.parameters_of(name, layer, self.layers)  # bad ones are refused here
        return Target(name, shape, parents, names, base, numbers, by_token, first.dtype in CARRIED)


def _stack(names: set[str], model: MappedModel) -> LayerStack:
    try:
        return layer_stack(names)
    except ValueError as error:
        raise InputError(
            "the layers of a model are not complete",
            where=str(model.folder),
            why=str(error),
            fix="fetch the model again",
        ) from error


def _by_layer(names: set[str], stack: LayerStack) -> dict[int, set[str]]:
    """The names within each layer."""
    layers: dict[int, set[str]] = {}
    for name in names:
        if location := stack.locate(name):
            layers.setdefault(location[0], set()).add(location[1])
    return layers


def is_by_token(names: Sequence[str], models: Sequence[MappedModel]) -> bool:
    """Whether a tensor outside the layers has a row a token: a matrix of as many rows as each model has, or its bias."""

    def rows(name: str, model: MappedModel) -> bool:
        tensor = model.tensors.get(name)
        return tensor is not None and len(tensor.shape) == 2 and tensor.shape[0] == model.vocabulary_rows

    if all(name.endswith(".bias") for name in names):
        own = zip(names, models, strict=True)
        return all(
            rows(f"{name.removesuffix('bias')}weight", model)
            and len(model.tensors[name].shape) == 1
            for name, model in own
        )  # fmt: skip
    return all(rows(name, model) for name, model in zip(names, models, strict=True))
