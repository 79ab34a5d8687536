"""A mergekit configuration read as a recipe. What has no counterpart here is refused by name, nothing is passed over.

The format is mergekit 0.1.5's (Goddard et al., arXiv 2403.13257, §3.1): merge_method, models or slices, base_model,
parameters (numbers, rows of numbers along the layers, or lists of {filter, value}), dtype, tokenizer_source. The numbers
mean the same; densities are of each tensor. Three differences remain: sums are float32 whatever the dtype, an election that
ends in a tie elects nobody, and DARE and DELLA rescale by the keep probability, as in their papers, not by the L1 norm that
was lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from components.shared.runtime.errors import ConfigError

from .recipe import Block, Entry, Filtered, Recipe, Setting
from .streamed import OWN, STREAMED

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
# Sums that mergekit does not divide by their weights unless it is told to.
UNDIVIDED = (
    "task_arithmetic",
    "dare_linear",
    "dare_ties",
    "della",
    "della_linear",
    "breadcrumbs",
    "breadcrumbs_ties",
)
RESCALED = ("dare_linear", "dare_ties", "della", "della_linear")


def parse(path: Path, *, seed: int = 0) -> Recipe:
    """The recipe of a file. Models are folders, absolute or relative to the file's own.

    :raises ConfigError: naming the key that is unknown, missing or not supported.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError("the configuration cannot be read", where=str(path), why=str(error)) from error
    return _Reader(path).recipe(_mapping(content, "the file", path), seed)


def _mapping(value: Any, what: str, path: Path) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ConfigError(f"{what} must be a mapping", where=str(path), why=f"it is {value!r}")
    return value


class _Reader:
    def __init__(self, path: Path) -> None:
        self.path = path

    def refuse(self, what: str, fix: str = "", why: str = "") -> ConfigError:
        return ConfigError(what, where=str(self.path), why=why, fix=fix)

    def recipe(self, content: dict[str, Any], seed: int) -> Recipe:
        for key in content:
            if key not in TOP:
                raise self.refuse(f"the key {key} is not supported", f"supported are {', '.join(TOP)}")
        method = content.get("merge_method")
        if method == "nuslerp":
            raise self.refuse(
                "mergekit's nuslerp is not supported",
                "forge merge --method nuslerp",
                "ours interpolates the lengths of the rows, mergekit's follows from those of the models",
            )
        if method not in STREAMED:
            raise self.refuse(f"the method {method} is not supported", f"supported are {', '.join(STREAMED)}")
        if ("models" in content) == ("slices" in content):
            raise self.refuse("there must be either models or slices")
        base = None if content.get("base_model") is None else self.place(content["base_model"])
        shared = _mapping(content.get("parameters"), "parameters", self.path)
        self.flags(method, shared)
        if method == "slerp":
            return self.slerp(content, base, shared, seed)
        if "slices" in content:
            entries, blocks = self.slices(content["slices"], method, base)
        else:
            listed = [self.model(one, method) for one in self.rows(content["models"], "models")]
            entries, blocks = tuple(one for one in listed if not self.is_base(one.place, method, base)), ()
        settings = self.settings(shared, method)
        if method in UNDIVIDED:
            settings.setdefault("normalize", 0.0)
        for entry in entries:
            given = {
                *settings,
                *entry.settings,
                *(key for block in blocks for key in (*block.settings, *block.own[0])),
            }
            if "weight" in STREAMED[method].parameters and method != "karcher" and "weight" not in given:
                raise self.refuse(f"{entry.place.name} has no weight", "give it parameters: {weight: …}")
        return Recipe(
            method, entries, base if method not in ("linear", "karcher") else None, settings, blocks,
            dtype=self.dtype(content), seed=seed, trim="tensor", tokenizer=self.tokenizer(content, base),
        )  # fmt: skip

    def is_base(self, place: Path, method: str, base: Path | None) -> bool:
        """Whether a listed model is the base alone: linear and karcher count it as a parent."""
        return place == base and method not in ("linear", "karcher")

    def slerp(self, content: dict[str, Any], base: Path | None, shared: dict[str, Any], seed: int) -> Recipe:
        """t is the way from the base to the other model: weights 1 − t and t."""
        if "slices" in content:
            rows = [self.rows(_mapping(one, "a slice", self.path).get("sources"), "sources")
                    for one in self.rows(content["slices"], "slices")]  # fmt: skip
            if len(rows) != 1:
                raise self.refuse(
                    "slerp over more than one slice is not supported", "use a row of numbers for t"
                )
            listed = [self.place(_mapping(one, "a source", self.path).get("model")) for one in rows[0]]
            last = {tuple(one.get("layer_range", ())) for one in rows[0]}
            if len(last) != 1 or len(next(iter(last))) != 2 or next(iter(last))[0] != 0:
                raise self.refuse("the sources must have the same layer_range, from 0", why=str(sorted(last)))
            blocks_last = int(next(iter(last))[1])
        else:
            listed = [self.place(_mapping(one, "a model", self.path).get("model"))
                      for one in self.rows(content["models"], "models")]  # fmt: skip
            blocks_last = 0
        places = list(dict.fromkeys([*([base] if base else []), *listed]))
        if base is None or len(places) != 2:
            raise self.refuse(
                "slerp takes a base_model and one other model", why=f"there are {len(places)} models"
            )
        if set(shared) - {"t"} or "t" not in shared:
            raise self.refuse(
                "slerp takes the parameter t, and no other", why=", ".join(shared) or "there is none"
            )
        t = self.setting("t", shared["t"])
        own: tuple[dict[str, Setting], ...] = ({"weight": _reverse(t)}, {"weight": t})
        blocks = (Block(0, blocks_last, own),) if blocks_last else ()
        entries = tuple(Entry(place, {} if blocks else one) for place, one in zip(places, own, strict=True))
        return Recipe(
            "slerp", entries, None, {}, blocks, dtype=self.dtype(content), seed=seed,
            tokenizer=self.tokenizer(content, base),
        )  # fmt: skip

    def slices(
        self, rows: Any, method: str, base: Path | None
    ) -> tuple[tuple[Entry, ...], tuple[Block, ...]]:
        """Slices that keep every layer where it is: each over the same models and the same layers of all of them."""
        places: list[Path] = []
        blocks: list[Block] = []
        for one in self.rows(rows, "slices"):
            piece = _mapping(one, "a slice", self.path)
            if unknown := set(piece) - {"sources", "parameters"}:
                raise self.refuse(f"{sorted(unknown)[0]} of a slice is not supported")
            sources = [_mapping(s, "a source", self.path) for s in self.rows(piece.get("sources"), "sources")]
            found = {}
            ranges = set()
            for source in sources:
                if unknown := set(source) - {"model", "layer_range", "parameters"}:
                    raise self.refuse(f"{sorted(unknown)[0]} of a source is not supported")
                place = self.place(source.get("model"))
                ranges.add(tuple(source.get("layer_range") or ()))
                if not self.is_base(place, method, base):
                    found[place] = self.settings(
                        _mapping(source.get("parameters"), "parameters", self.path), method
                    )
            if len(ranges) != 1 or len(next(iter(ranges))) != 2:
                raise self.refuse(
                    "the sources of a slice must have the same layer_range", why=str(sorted(ranges)),
                    fix="stacking layers of other depths is what the search's frankenmerge does",
                )  # fmt: skip
            places = places or list(found)
            if list(found) != places:
                raise self.refuse("every slice must have the same models, in the same order")
            first, last = next(iter(ranges))
            settings = self.settings(_mapping(piece.get("parameters"), "parameters", self.path), method)
            blocks.append(Block(int(first), int(last), tuple(found.values()), settings))
        return tuple(Entry(place) for place in places), tuple(blocks)

    def model(self, one: Any, method: str) -> Entry:
        content = _mapping(one, "a model", self.path)
        if unknown := set(content) - {"model", "parameters"}:
            raise self.refuse(f"{sorted(unknown)[0]} of a model is not supported")
        parameters = _mapping(content.get("parameters"), "parameters", self.path)
        for key in set(parameters) - OWN:
            raise self.refuse(
                f"{key} is no parameter of a model", "put it under the parameters of the whole merge"
            )
        return Entry(self.place(content.get("model")), self.settings(parameters, method))

    def rows(self, value: Any, what: str) -> list[Any]:
        if not isinstance(value, list) or not value:
            raise self.refuse(f"{what} must be a list that is not empty")
        return value

    def place(self, value: Any) -> Path:
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

    def flags(self, method: str, shared: dict[str, Any]) -> None:
        """int8_mask changes no result; rescale is what the paper says; filter-wise and the like are refused."""
        mask = shared.pop("int8_mask", False)
        if not isinstance(mask, bool):
            raise self.refuse("int8_mask must be true or false", why=str(mask))
        if "rescale" in shared and bool(shared.pop("rescale")) != (method in RESCALED):
            raise self.refuse(f"rescale, other than {method} has it by itself, is not supported")
        if shared.get("filter_wise") is False:
            shared.pop("filter_wise")
        if method == "karcher":
            for key in ("max_iter", "tol"):
                if key in shared:
                    raise self.refuse(
                        f"{key} is not supported", "leave it out: the iteration ends when it has converged"
                    )

    def settings(self, content: Mapping[str, Any], method: str) -> dict[str, Setting]:
        allowed = STREAMED[method].parameters
        for key in content:
            if key not in allowed:
                raise self.refuse(
                    f"{method} with the parameter {key} is not supported",
                    f"supported are {', '.join(allowed) or 'none'}",
                )
        return {key: self.setting(key, value) for key, value in content.items()}

    def setting(self, key: str, value: Any) -> Setting:
        if isinstance(value, dict):
            value = [value]
        if isinstance(value, list) and value and all(isinstance(one, dict) for one in value):
            for one in value:
                if set(one) - {"filter", "value"} or "value" not in one:
                    raise self.refuse(f"{key} must be a list of {{filter, value}}", why=str(one))
            return [Filtered("" if one.get("filter") in (None, "*") else str(one["filter"]),
                             self.numbers(key, one["value"])) for one in value]  # fmt: skip
        return self.numbers(key, value)

    def numbers(self, key: str, value: Any) -> float | list[float]:
        if isinstance(value, list) and value:
            return [self.number(key, one) for one in value]
        return self.number(key, value)

    def number(self, key: str, value: Any) -> float:
        try:
            return float(value)
        except (TypeError, ValueError) as error:
            raise self.refuse(f"{key} must be a number", why=f"it is {value!r}") from error

    def dtype(self, content: dict[str, Any]) -> str:
        return str(content.get("out_dtype") or content.get("dtype") or "")

    def tokenizer(self, content: dict[str, Any], base: Path | None) -> Any:
        source = content.get("tokenizer_source")
        if source is None:
            return "same"
        if source in ("base", "union"):
            return source
        if base is not None and self.path.parent / str(source) == base:
            return "base"
        raise self.refuse(f"tokenizer_source {source} is not supported", "use base or union")


def _reverse(setting: Setting) -> Setting:
    """1 − t, for a number, a row or filtered ones."""
    if isinstance(setting, (int, float)):
        return 1 - setting
    found: list[Any] = []
    for one in setting:
        if isinstance(one, Filtered):
            value = one.value
            found.append(
                Filtered(one.text, 1 - value if isinstance(value, (int, float)) else [1 - v for v in value])
            )
        else:
            found.append(1 - one)
    return found
