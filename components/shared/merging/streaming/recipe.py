"""The recipe of a merge: which method, which models, which numbers – and which of them in a given layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from components.shared.runtime.errors import InputError
from components.shared.runtime.wording import did_you_mean

from ..checkpoint.families import EMBEDDINGS
from ..method import MergeMethod, Parameter
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


@dataclass(frozen=True)
class RecipeModel:
    """A parent: its folder, the parameters that are its own, and the folder of a LoRA that is added to it."""

    folder: Path
    parameters: ParameterValues = field(default_factory=dict)
    lora: Path | None = None


@dataclass(frozen=True)
class LayerBlock:
    """Layers first … last − 1 of the merged model, with numbers of their own; along them a row of numbers runs anew.

    :param own: of each of its parents.
    :param parameters: those that its parents share.
    :param parents: the numbers of the recipe's models that it is merged from; none: all of them.
    :param starts: the layer of each parent that the first one is merged from; none: `first`.
    :param base_start: the same of the base; None: `first`.
    """

    first: int
    last: int
    own: tuple[ParameterValues, ...]
    parameters: ParameterValues = field(default_factory=dict)
    parents: tuple[int, ...] = ()
    starts: tuple[int, ...] = ()
    base_start: int | None = None


@dataclass(frozen=True)
class TokenRow:
    """Where the row of a token comes from that a model lacks.

    :param model: the folder of the model that has it; None: zeros.
    :param token: its name or number there; None: its own name.
    :param force: whether the models that have the token take this row too.
    """

    model: Path | None
    token: str | int | None = None
    force: bool = False


@dataclass(frozen=True)
class TokenizerRecipe:
    """What is done with the vocabularies.

    :param source: "same" refuses vocabularies that differ, "base" takes the base's (or first parent's), "union" adds to it;
        a folder: the tokenizer there.
    :param tokens: rules for single tokens, by their names; those that are new are added.
    :param multiple: the rows of the embedding are filled up to a multiple of it; 0: they are not.
    :param chat_template: "" the tokenizer's own, "auto" what most models have, or the template itself.
    :param base: the folder of the model whose rows stand in where others have none; None: the recipe's base.
    """

    source: Literal["same", "base", "union"] | Path = "same"
    tokens: Mapping[str, TokenRow] = field(default_factory=dict)
    multiple: int = 0
    chat_template: str = ""
    base: Path | None = None


@dataclass(frozen=True)
class Recipe:
    """A merge, before any model is opened.

    :param method: a name of the registry.
    :param models: the parents.
    :param base: what they were trained from.
    :param parameters: those that all parents share, or that are the same for all.
    :param blocks: where layers differ in their numbers or in what they are merged from.
    :param dtype: of the merged file; "" tensor by tensor as the first parent.
    :param seed: of random masks.
    :param trim: whether TIES's density is of the whole model, as in its paper, or of each tensor, as in mergekit.
    :param tokenizer: what is done with vocabularies that differ.
    :param notes: what to know of where the recipe was read, in words.
    """

    method: str
    models: tuple[RecipeModel, ...]
    base: Path | None = None
    parameters: ParameterValues = field(default_factory=dict)
    blocks: tuple[LayerBlock, ...] = ()
    dtype: str = ""
    seed: int = 0
    trim: Literal["model", "tensor"] = "model"
    tokenizer: TokenizerRecipe = TokenizerRecipe()
    notes: tuple[str, ...] = ()

    @property
    def merge_method(self) -> MergeMethod:
        """The method itself."""
        return merge_method(self.method)

    @property
    def folders(self) -> list[Path]:
        """Of all models, the base and LoRAs among them, each once."""
        loras = [model.lora for model in self.models if model.lora is not None]
        base = [] if self.base is None else [self.base]
        return list(dict.fromkeys([*(model.folder for model in self.models), *base, *loras]))

    def parents_of(self, block: LayerBlock | None) -> Sequence[int]:
        """The numbers of the models that a block is merged from; None: all."""
        return range(len(self.models)) if block is None or not block.parents else block.parents

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
        for count in {len(self.parents_of(block)) for block in self.blocks or (None,)}:
            self._check_count(method, count)
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
            if block.first != end or block.last <= end:
                raise InputError(
                    "the layers of the slices do not follow each other",
                    where=f"layers {block.first} to {block.last}",
                    why=f"the next layer is {end}",
                    fix="give the slices in the order of the layers that they make",
                )
            end = block.last

    def _check_count(self, method: MergeMethod, count: int) -> None:
        if method.fewest <= count and (method.most is None or count <= method.most):
            return
        takes = f"{method.fewest} or more models"
        if method.most is not None:
            takes = "1 model" if method.most == 1 else f"{method.fewest} to {method.most} models"
        raise InputError(
            f"{self.method} merges {takes}, and {count} are given",
            where="models",
            fix="give each with --model; the base, with --base, is none of them",
        )

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
        :param layers: how many the merged model has.
        :raises InputError: a number is out of its parameter's bounds.
        """
        from ..inputs import MergeParameters

        block = self.block_of(name, layer)
        first, last = (block.first, block.last) if block else (0, layers)
        depth = 0.0 if layer is None else (layer - first) / (last - first - 1) if last - first > 1 else 1.0
        shared: list[ParameterValues] = [*([block.parameters] if block else []), self.parameters]
        own = [
            [*([block.own[index]] if block else []), self.models[number].parameters, *shared]
            for index, number in enumerate(self.parents_of(block))
        ]
        parameters = self.merge_method.parameters
        numbers = MergeParameters(
            name,
            [{p.name: _value(p, name, depth, scopes) for p in parameters if p.per_model} for scopes in own],
            {p.name: _value(p, name, depth, shared) for p in parameters if not p.per_model},
            self.seed,
        )
        if self.base and numbers.common.get("normalize") and sum(numbers.weights) < 0:
            raise InputError(
                f"the weights sum to {sum(numbers.weights):g}: divided by it, the step would turn around",
                where=name,
                fix="--sum takes the weights as they are; in a mergekit file: normalize: false",
            )
        return numbers

    def block_of(self, name: str, layer: int | None) -> LayerBlock | None:
        """The block of a tensor; what lies outside the layers goes with the first where it is an embedding, or the last."""
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
