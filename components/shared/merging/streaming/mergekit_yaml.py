"""A mergekit configuration read as a recipe. What has no counterpart here is refused by name, nothing is passed over.

The format is mergekit 0.1.5's (Goddard et al., arXiv 2403.13257, §3.1): merge_method, models or slices, base_model,
parameters (numbers, rows of numbers along the layers, or lists of {filter, value}), dtype, tokenizer_source. The numbers
mean the same; densities are of each tensor. Four differences remain: sums are float32 whatever the dtype, an election that
ends in a tie elects nobody, and DARE and DELLA rescale by the keep probability, as in their papers, not by the L1 norm that
was lost. Where DELLA's density leaves no room for its epsilon, that gives way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from components.shared.runtime.errors import ConfigError
from components.shared.runtime.wording import did_you_mean

from ..method import MergeMethod
from ..registry import merge_methods, streamed_methods
from .recipe import Filtered, LayerBlock, ParameterValue, Recipe, RecipeModel

TOP = (
    "merge_method",
    "models",
    "slices",
    "base_model",
    "parameters",
    "dtype",
    "out_dtype",
    "tokenizer_source",
)


def parse(path: Path, *, seed: int = 0) -> Recipe:
    """The recipe of a file. Models are folders, absolute or relative to the file's own.

    :param path: of a YAML file.
    :param seed: of random masks.
    :raises ConfigError: naming the key that is unknown, missing or not supported.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError("the configuration cannot be read", where=str(path), why=str(error)) from error
    reader = _Reader(path)
    return reader.recipe(reader.mapping(content, "the file"), seed)


class _Reader:
    """Reads one file; every refusal names it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def refuse(self, what: str, fix: str = "", why: str = "") -> ConfigError:
        """The error to raise."""
        return ConfigError(what, where=str(self.path), why=why, fix=fix)

    def mapping(self, value: Any, what: str, keys: Sequence[str] = ()) -> dict[str, Any]:
        """The value as a mapping, {} where there is none; keys: those that it may have, if not any.

        :raises ConfigError: it is no mapping, or has another key.
        """
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise self.refuse(f"{what} must be a mapping", why=f"it is {value!r}")
        if keys and (unknown := sorted(set(value) - set(keys))):
            raise self.refuse(f"{unknown[0]} of {what} is not supported", f"supported are {', '.join(keys)}")
        return value

    def rows(self, value: Any, what: str) -> list[Any]:
        """The value as a list that is not empty.

        :raises ConfigError: it is no such list.
        """
        if not isinstance(value, list) or not value:
            raise self.refuse(f"{what} must be a list that is not empty")
        return value

    def recipe(self, content: dict[str, Any], seed: int) -> Recipe:
        """The whole file.

        :raises ConfigError: a key is unknown, missing or not supported.
        """
        for key in content:
            if key not in TOP:
                raise self.refuse(f"the key {key} is not supported", f"supported are {', '.join(TOP)}")
        method = self.method(content.get("merge_method"))
        if ("models" in content) == ("slices" in content):
            raise self.refuse("there must be either models or slices")
        base = None if content.get("base_model") is None else self.folder(content["base_model"])
        shared = self.mapping(content.get("parameters"), "parameters")
        self.flags(method, shared)
        if any(parameter.mergekit == "t" for parameter in method.parameters):
            return self.between_two(content, base, shared, method, seed)
        models: tuple[RecipeModel, ...]
        blocks: tuple[LayerBlock, ...] = ()
        if "slices" in content:
            models, blocks = self.slices(content["slices"], method, base)
        else:
            listed = [self.model(entry, method) for entry in self.rows(content["models"], "models")]
            models = tuple(model for model in listed if not self.is_base(model.folder, method, base))
        parameters = self.values(shared, method)
        for parameter in method.parameters:
            if parameter.mergekit_default is not None:
                parameters.setdefault(parameter.name, parameter.mergekit_default)
        self.require(method, models, blocks, parameters)
        return Recipe(
            method.name, models, None if method.base == "unused" else base, parameters, blocks,
            dtype=self.dtype(content), seed=seed, trim="tensor", tokenizer=self.tokenizer(content, base),
        )  # fmt: skip

    def method(self, name: Any) -> MergeMethod:
        """The method of a configuration, where it means here what it means to mergekit.

        :raises ConfigError: there is no such method, or it differs from mergekit's.
        """
        method = merge_methods().get(str(name))
        if method is not None and method.mergekit_differs:
            raise self.refuse(
                f"mergekit's {name} is not supported", f"forge merge --method {name}", method.mergekit_differs
            )
        readable = [known for known, other in streamed_methods().items() if not other.mergekit_differs]
        if method is None or method.name not in readable:
            raise self.refuse(f"the method {name} is not supported", did_you_mean(str(name), readable))
        return method

    def require(
        self,
        method: MergeMethod,
        models: Sequence[RecipeModel],
        blocks: Sequence[LayerBlock],
        parameters: Mapping[str, ParameterValue],
    ) -> None:
        """Refuse a model without a parameter that mergekit requires.

        :raises ConfigError: there is such a model.
        """
        in_blocks = {key for block in blocks for key in (*block.parameters, *block.own[0])}
        for model in models:
            for parameter in method.parameters:
                present = {*parameters, *model.parameters, *in_blocks}
                if parameter.mergekit_required and parameter.name not in present:
                    raise self.refuse(
                        f"{model.folder.name} has no {parameter.name}",
                        f"give it parameters: {{{parameter.name}: …}}",
                    )

    def is_base(self, folder: Path, method: MergeMethod, base: Path | None) -> bool:
        """Whether a listed model is the base alone: a method that reads no base counts it as a parent."""
        return folder == base and method.base != "unused"

    def between_two(
        self,
        content: dict[str, Any],
        base: Path | None,
        shared: dict[str, Any],
        method: MergeMethod,
        seed: int,
    ) -> Recipe:
        """slerp: t is the way from the base to the other model, that is weights 1 − t and t.

        :raises ConfigError: there are other than two models, several slices, or a parameter other than t.
        """
        name, last = method.name, 0
        if "slices" in content:
            rows = [
                self.rows(self.mapping(entry, "a slice").get("sources"), "sources")
                for entry in self.rows(content["slices"], "slices")
            ]
            if len(rows) != 1:
                raise self.refuse(
                    f"{name} over more than one slice is not supported", "use a row of numbers for t"
                )
            sources = [self.mapping(entry, "a source") for entry in rows[0]]
            ranges = {tuple(source.get("layer_range", ())) for source in sources}
            if len(ranges) != 1 or len(next(iter(ranges))) != 2 or next(iter(ranges))[0] != 0:
                raise self.refuse(
                    "the sources must have the same layer_range, from 0", why=str(sorted(ranges))
                )
            last = int(next(iter(ranges))[1])
        else:
            sources = [self.mapping(entry, "a model") for entry in self.rows(content["models"], "models")]
        listed = [self.folder(source.get("model")) for source in sources]
        folders = list(dict.fromkeys([*([base] if base else []), *listed]))
        if base is None or len(folders) != 2:
            raise self.refuse(
                f"{name} takes a base_model and one other model", why=f"there are {len(folders)} models"
            )
        if set(shared) != {"t"}:
            raise self.refuse(
                f"{name} takes the parameter t, and no other", why=", ".join(shared) or "there is none"
            )
        t = self.value("t", shared["t"])
        own: tuple[dict[str, ParameterValue], ...] = ({"weight": _one_minus(t)}, {"weight": t})
        blocks = (LayerBlock(0, last, own),) if last else ()
        models = tuple(
            RecipeModel(folder, {} if blocks else values) for folder, values in zip(folders, own, strict=True)
        )
        return Recipe(
            name, models, None, {}, blocks, dtype=self.dtype(content), seed=seed,
            tokenizer=self.tokenizer(content, base),
        )  # fmt: skip

    def slices(
        self, rows: Any, method: MergeMethod, base: Path | None
    ) -> tuple[tuple[RecipeModel, ...], tuple[LayerBlock, ...]]:
        """Slices that keep every layer where it is: each over the same models and the same layers of all of them.

        :raises ConfigError: the models or the layers of a slice differ.
        """
        folders: list[Path] = []
        blocks: list[LayerBlock] = []
        for row in self.rows(rows, "slices"):
            piece = self.mapping(row, "a slice", ("sources", "parameters"))
            own: dict[Path, dict[str, ParameterValue]] = {}
            ranges = set()
            for entry in self.rows(piece.get("sources"), "sources"):
                source = self.mapping(entry, "a source", ("model", "layer_range", "parameters"))
                folder = self.folder(source.get("model"))
                ranges.add(tuple(source.get("layer_range") or ()))
                if not self.is_base(folder, method, base):
                    own[folder] = self.values(self.mapping(source.get("parameters"), "parameters"), method)
            if len(ranges) != 1 or len(next(iter(ranges))) != 2:
                raise self.refuse(
                    "the sources of a slice must have the same layer_range", why=str(sorted(ranges)),
                    fix="stacking layers of other depths is what the search's frankenmerge does",
                )  # fmt: skip
            folders = folders or list(own)
            if list(own) != folders:
                raise self.refuse("every slice must have the same models, in the same order")
            first, last = next(iter(ranges))
            parameters = self.values(self.mapping(piece.get("parameters"), "parameters"), method)
            blocks.append(LayerBlock(int(first), int(last), tuple(own.values()), parameters))
        return tuple(RecipeModel(folder) for folder in folders), tuple(blocks)

    def model(self, entry: Any, method: MergeMethod) -> RecipeModel:
        """A model of the list, and the parameters that are its own.

        :raises ConfigError: a parameter is one of the whole merge, or not supported.
        """
        content = self.mapping(entry, "a model", ("model", "parameters"))
        parameters = self.mapping(content.get("parameters"), "parameters")
        for parameter in method.parameters:
            if parameter.mergekit in parameters and not parameter.per_model:
                raise self.refuse(
                    f"{parameter.mergekit} is no parameter of a model",
                    "put it under the parameters of the whole merge",
                )
        return RecipeModel(self.folder(content.get("model")), self.values(parameters, method))

    def folder(self, value: Any) -> Path:
        """A model's folder.

        :raises ConfigError: it is no path, or there is no such folder.
        """
        if not isinstance(value, str) or "+" in value or "@" in value:
            raise self.refuse(
                "a model must be the path of a folder",
                why=f"it is {value!r}",
                fix="LoRAs and revisions are not supported",
            )
        folder = Path(value) if Path(value).is_absolute() else self.path.parent / value
        if not folder.is_dir():
            raise self.refuse(
                f"there is no folder {value}",
                fix="download the model first: hf download NAME --local-dir FOLDER",
            )
        return folder

    def flags(self, method: MergeMethod, shared: dict[str, Any]) -> None:
        """int8_mask changes no result; rescale is what the paper says; filter-wise and the like are refused.

        :raises ConfigError: int8_mask is no boolean, or rescale is not what the method does.
        """
        mask = shared.pop("int8_mask", False)
        if not isinstance(mask, bool):
            raise self.refuse("int8_mask must be true or false", why=str(mask))
        rescales = method.mergekit_flags.get("rescale", False)
        if "rescale" in shared and bool(shared.pop("rescale")) != rescales:
            raise self.refuse(f"rescale, other than {method.name} has it by itself, is not supported")
        if shared.get("filter_wise") is False:
            shared.pop("filter_wise")

    def values(self, content: Mapping[str, Any], method: MergeMethod) -> dict[str, ParameterValue]:
        """Parameters under our names.

        :raises ConfigError: the method has no such parameter, or a value is no number.
        """
        ours = {parameter.mergekit: parameter.name for parameter in method.parameters if parameter.mergekit}
        for key in content:
            if key not in ours:
                raise self.refuse(
                    f"{method.name} with the parameter {key} is not supported",
                    f"supported are {', '.join(ours) or 'none'}",
                )
        return {ours[key]: self.value(key, value) for key, value in content.items()}

    def value(self, key: str, value: Any) -> ParameterValue:
        """A number, a row of numbers, or filtered ones.

        :raises ConfigError: it is none of these.
        """
        if isinstance(value, dict):
            value = [value]
        if not isinstance(value, list) or not value or not all(isinstance(entry, dict) for entry in value):
            return self.numbers(key, value)
        for entry in value:
            if set(entry) - {"filter", "value"} or "value" not in entry:
                raise self.refuse(f"{key} must be a list of {{filter, value}}", why=str(entry))
        return [
            Filtered(
                "" if entry.get("filter") in (None, "*") else str(entry["filter"]),
                self.numbers(key, entry["value"]),
            )
            for entry in value
        ]

    def numbers(self, key: str, value: Any) -> float | list[float]:
        """A number or a row of them.

        :raises ConfigError: it is neither.
        """
        if isinstance(value, list) and value:
            return [self.number(key, number) for number in value]
        return self.number(key, value)

    def number(self, key: str, value: Any) -> float:
        """A single number.

        :raises ConfigError: it is no number.
        """
        try:
            return float(value)
        except (TypeError, ValueError) as error:
            raise self.refuse(f"{key} must be a number", why=f"it is {value!r}") from error

    def dtype(self, content: dict[str, Any]) -> str:
        """Of the merged file, "" where nothing is said."""
        return str(content.get("out_dtype") or content.get("dtype") or "")

    def tokenizer(self, content: dict[str, Any], base: Path | None) -> Any:
        """What is done with vocabularies that differ.

        :raises ConfigError: the source is neither base nor union.
        """
        source = content.get("tokenizer_source")
        if source is None:
            return "same"
        if source in ("base", "union"):
            return source
        if base is not None and self.path.parent / str(source) == base:
            return "base"
        raise self.refuse(f"tokenizer_source {source} is not supported", "use base or union")


def _one_minus(value: ParameterValue) -> ParameterValue:
    """1 − t, for a number, a row or filtered ones."""
    if isinstance(value, (int, float)):
        return 1 - value
    reversed_values: list[Any] = []
    for entry in value:
        if isinstance(entry, Filtered):
            own = entry.value
            flipped = 1 - own if isinstance(own, (int, float)) else [1 - number for number in own]
            reversed_values.append(Filtered(entry.text, flipped))
        else:
            reversed_values.append(1 - entry)
    return reversed_values
