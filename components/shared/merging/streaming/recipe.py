"""The recipe of a merge: which method, which models, which numbers – and which of them in a given layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from components.shared.runtime.errors import InputError
from components.shared.runtime.wording import did_you_mean

from ..method import MOST_MODELS, MergeMethod, Parameter
from ..registry import merge_method, merge_methods, streamed_methods

if TYPE_CHECKING:
    from ..inputs import MergeParameters


@dataclass(frozen=True)
class Filtered:
    """A value for the tensors whose name holds `text`; text "" is for all."""

    text: str
    value: float | Sequence[float]


# A number; numbers along the layers, from the first to the last; or the first of these whose filter fits.
ParameterValue = float | Sequence[float] | Sequence[Filtered]
ParameterValues = Mapping[str, ParameterValue]

EMBEDDINGS = ("embed_tokens", "embed_in", "embed_positions", "word_embeddings", "wte", "wpe")


@dataclass(frozen=True)
class RecipeModel:
    """A parent: its folder, and the parameters that are its own."""

    folder: Path
    parameters: ParameterValues = field(default_factory=dict)


@dataclass(frozen=True)
class LayerBlock:
    """Layers first … last − 1 with numbers of their own; along them a row of numbers runs anew.

    :param own: of each parent, in the order of the recipe's models.
    :param parameters: those that all parents share.
    """

    first: int
    last: int
    own: tuple[ParameterValues, ...]
    parameters: ParameterValues = field(default_factory=dict)


@dataclass(frozen=True)
class Recipe:
    """A merge, before any model is opened.

    :param method: a name of the registry.
    :param models: two to ten parents.
    :param base: what they were trained from.
    :param parameters: those that all parents share, or that are the same for all.
    :param dtype: of the merged file; "" as the first parent.
    :param seed: of random masks.
    :param trim: whether TIES's density is of the whole model, as in its paper, or of each tensor, as in mergekit.
    :param tokenizer: "same" refuses vocabularies that differ, "base" takes the base's (or first parent's), "union" adds
        to it.
    """

    method: str
    models: tuple[RecipeModel, ...]
    base: Path | None = None
    parameters: ParameterValues = field(default_factory=dict)
    blocks: tuple[LayerBlock, ...] = ()
    dtype: str = ""
    seed: int = 0
    trim: Literal["model", "tensor"] = "model"
    tokenizer: Literal["same", "base", "union"] = "same"

    @property
    def merge_method(self) -> MergeMethod:
        """The method itself."""
        return merge_method(self.method)

    def check(self) -> None:
        """Refuse what cannot be merged by this recipe.

        :raises InputError: an unknown method or parameter, too few or too many models, a base that is missing.
        """
        streamed = streamed_methods()
        if self.method not in streamed:
            known = self.method in merge_methods()
            raise InputError(
                f"{self.method} is a method of the search alone"
                if known
                else f"there is no method {self.method!r}",
                where="method",
                fix=f"use one of {', '.join(streamed)}"
                if known
                else did_you_mean(self.method, list(streamed)),
            )
        method = self.merge_method
        if not 2 <= len(self.models) <= MOST_MODELS:
            raise InputError(
                f"{self.method} merges 2 to {MOST_MODELS} models, and {len(self.models)} are given",
                where="models",
                fix="give each with --model; the base, with --base, is none of them",
            )
        if method.needs_base and self.base is None:
            baseless = [name for name, other in streamed.items() if not other.needs_base]
            raise InputError(
                f"{self.method} needs the base that the models were trained from",
                where="base",
                fix=f"give it with --base, or use one that needs none: {', '.join(baseless)}",
            )
        self._check_parameters(method)
        end = 0
        for block in self.blocks:
            if block.first != end:
                raise InputError(
                    "the layers of the slices do not follow each other",
                    where=f"layers {block.first} to {block.last}",
                    why=f"the next layer is {end}",
                )
            end = block.last

    def _check_parameters(self, method: MergeMethod) -> None:
        scopes: list[ParameterValues] = [self.parameters, *(model.parameters for model in self.models)]
        scopes += [scope for block in self.blocks for scope in (block.parameters, *block.own)]
        known = [parameter.name for parameter in method.parameters]
        names = {name for scope in scopes for name in scope}
        for name in sorted(names - set(known)):
            raise InputError(
                f"{self.method} has no parameter {name}",
                where=name,
                fix=f"its parameters are {', '.join(known) or 'none'}",
            )
        shared = {parameter.name for parameter in method.parameters if not parameter.per_model}
        for model in self.models:
            for name in sorted(shared & set(model.parameters)):
                raise InputError(
                    f"{name} is one number for all models",
                    where=name,
                    fix="give it once, for the whole merge",
                )
        if "lambda" in names and method.base == "optional" and self.base is None:
            raise InputError(
                "without a base there is no step away from it",
                where="lambda",
                fix="give the base with --base, or leave out --lambda",
            )

    def parameters_of(self, name: str, layer: int | None, layers: int) -> MergeParameters:
        """The numbers of one tensor.

        :param name: the tensor's.
        :param layer: that it belongs to; None for what lies outside the layers, and takes a row's first number.
        :param layers: how many the models have.
        :raises InputError: a number is out of its parameter's bounds.
        """
        from ..inputs import MergeParameters

        block = self._block(name, layer)
        first, last = (block.first, block.last) if block else (0, layers)
        depth = 0.0 if layer is None else (layer - first) / (last - first - 1) if last - first > 1 else 1.0
        shared: list[ParameterValues] = [*([block.parameters] if block else []), self.parameters]
        own = [
            [block.own[index] if block else model.parameters, *shared]
            for index, model in enumerate(self.models)
        ]
        parameters = self.merge_method.parameters
        return MergeParameters(
            name,
            [{p.name: _value(p, name, depth, scopes) for p in parameters if p.per_model} for scopes in own],
            {p.name: _value(p, name, depth, shared) for p in parameters if not p.per_model},
            self.seed,
        )

    def _block(self, name: str, layer: int | None) -> LayerBlock | None:
        """What lies outside the layers goes with the first block where it is an embedding, with the last otherwise."""
        if not self.blocks:
            return None
        if layer is None:
            return self.blocks[0 if any(word in name for word in EMBEDDINGS) else -1]
        return next(block for block in self.blocks if block.first <= layer < block.last)


def _value(parameter: Parameter, tensor: str, depth: float, scopes: Sequence[ParameterValues]) -> float:
    """The first of the scopes' values that fits the tensor, or the default."""
    for scope in scopes:
        if parameter.name in scope and (value := evaluate(scope[parameter.name], tensor, depth)) is not None:
            if not parameter.allows(value):
                raise InputError(
                    f"{parameter.name} is {value}", where=tensor, fix=f"it must be {parameter.bounds}"
                )
            return value
    return parameter.default


def evaluate(setting: ParameterValue, name: str, depth: float) -> float | None:
    """The number for a tensor; a row of numbers is read in straight lines.

    :param setting: a number, a row, or filtered ones.
    :param name: the tensor's.
    :param depth: in [0, 1], from the first layer to the last.
    :returns: None where no filter fits.
    """
    if isinstance(setting, (int, float)):
        return float(setting)
    for value in setting:
        if isinstance(value, Filtered) and value.text in name:
            return evaluate(value.value, name, depth)
    if not setting or isinstance(setting[0], Filtered):
        return None
    row = [float(value) for value in setting if not isinstance(value, Filtered)]
    position = depth * (len(row) - 1)
    low = min(int(position), len(row) - 1)
    high = min(low + 1, len(row) - 1)
    return (1 - (position - low)) * row[low] + (position - low) * row[high]
