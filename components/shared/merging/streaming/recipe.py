"""A static merge's recipe: which method, which models, which numbers – and which of them in a given layer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from components.shared.runtime.errors import InputError

from .streamed import OWN, STREAMED, Streamed, Terms


@dataclass(frozen=True)
class Filtered:
    """A value for the tensors whose name holds `text`; text "" is for all."""

    text: str
    value: float | Sequence[float]


# A number; numbers along the layers, from the first to the last; or the first of these whose filter fits.
Setting = float | Sequence[float] | Sequence[Filtered]
Settings = Mapping[str, Setting]

BOUNDS: dict[str, tuple[float, float]] = {
    "density": (0.0, 1.0), "gamma": (0.0, 1.0), "epsilon": (0.0, 0.5), "select_topk": (0.0, 1.0),
}  # fmt: skip
EMBEDDINGS = ("embed_tokens", "embed_in", "embed_positions", "word_embeddings", "wte", "wpe")
ABOVE = ("density", "select_topk")  # 0 itself is refused: it would keep nothing


@dataclass(frozen=True)
class Entry:
    """A parent and the parameters that are its own."""

    place: Path
    settings: Settings = field(default_factory=dict)


@dataclass(frozen=True)
class Block:
    """Layers first … last − 1 with numbers of their own; along them a row of numbers runs anew.

    own: by parent, in the order of the recipe's entries.
    """

    first: int
    last: int
    own: tuple[Settings, ...]
    settings: Settings = field(default_factory=dict)


@dataclass(frozen=True)
class Recipe:
    """entries: two to ten parents. base: what they were trained from. dtype: of the merged file; "" as the first parent.

    trim: whether TIES's density is of the whole model, as in its paper, or of each tensor, as in mergekit.
    tokenizer: "same" refuses vocabularies that differ, "base" takes the base's (or first parent's), "union" adds to it.
    """

    method: str
    entries: tuple[Entry, ...]
    base: Path | None = None
    settings: Settings = field(default_factory=dict)
    blocks: tuple[Block, ...] = ()
    dtype: str = ""
    seed: int = 0
    trim: Literal["model", "tensor"] = "model"
    tokenizer: Literal["same", "base", "union"] = "same"

    @property
    def streamed(self) -> Streamed:
        return STREAMED[self.method]

    def check(self) -> None:
        """Raises InputError: an unknown method or parameter, too few or too many models, a base that is missing."""
        if self.method not in STREAMED:
            raise InputError(
                f"there is no method {self.method!r}", where="method", fix=f"use one of {', '.join(STREAMED)}"
            )
        method = self.streamed
        if not 2 <= len(self.entries) <= method.most:
            raise InputError(
                f"{self.method} merges 2 to {method.most} models, and {len(self.entries)} are given",
                where="models",
                fix="give each with --model; the base, with --base, is none of them",
            )
        if method.needs_base and self.base is None:
            raise InputError(
                f"{self.method} needs the base that the models were trained from",
                where="base",
                fix="give it with --base, or use linear, slerp or karcher, which need none",
            )
        scopes: list[Settings] = [self.settings, *(entry.settings for entry in self.entries)]
        scopes += [one for block in self.blocks for one in (block.settings, *block.own)]
        for name in sorted({name for scope in scopes for name in scope} - set(method.parameters)):
            raise InputError(
                f"{self.method} has no parameter {name}",
                where=name,
                fix=f"its parameters are {', '.join(method.parameters) or 'none'}",
            )
        for at, last in zip((0, *(block.last for block in self.blocks)), self.blocks, strict=False):
            if last.first != at:
                raise InputError(
                    "the layers of the slices do not follow each other",
                    where=f"layers {last.first} to {last.last}",
                    why=f"the next layer is {at}",
                )

    def terms(self, name: str, layer: int | None, layers: int) -> Terms:
        """The numbers of one tensor; layer None is for what lies outside the layers, and takes a row's first number."""
        block = self._block(name, layer)
        first, last = (block.first, block.last) if block else (0, layers)
        t = 0.0 if layer is None else (layer - first) / (last - first - 1) if last - first > 1 else 1.0
        common: list[Settings] = [*([block.settings] if block else []), self.settings]
        own = [
            [block.own[index] if block else entry.settings, *common]
            for index, entry in enumerate(self.entries)
        ]
        wanted = self.streamed.parameters
        return Terms(
            name,
            [{key: self._value(key, name, t, scopes) for key in wanted if key in OWN} for scopes in own],
            {key: self._value(key, name, t, common) for key in wanted if key not in OWN},
            self.seed,
        )

    def _block(self, name: str, layer: int | None) -> Block | None:
        """What lies outside the layers goes with the first block where it is an embedding, with the last otherwise."""
        if not self.blocks:
            return None
        if layer is None:
            return self.blocks[0 if any(word in name for word in EMBEDDINGS) else -1]
        return next(one for one in self.blocks if one.first <= layer < one.last)

    def _value(self, key: str, name: str, t: float, scopes: Sequence[Settings]) -> float:
        for scope in scopes:
            if key in scope and (value := evaluate(scope[key], name, t)) is not None:
                low, high = BOUNDS.get(key, (-math.inf, math.inf))
                if not low <= value <= high or not math.isfinite(value) or (value == 0 and key in ABOVE):
                    raise InputError(
                        f"{key} is {value}", where=name, fix=f"it must be {_bounds(key, low, high)}"
                    )
                return value
        return self.streamed.parameters[key]


def _bounds(key: str, low: float, high: float) -> str:
    return (
        f"{'above' if key in ABOVE else 'at least'} {low:g} and at most {high:g}"
        if high < math.inf
        else "finite"
    )


def evaluate(setting: Setting, name: str, t: float) -> float | None:
    """The number for a tensor at depth t in [0, 1]; a row is read in straight lines. None: no filter fits."""
    if isinstance(setting, (int, float)):
        return float(setting)
    for one in setting:
        if isinstance(one, Filtered) and one.text in name:
            return evaluate(one.value, name, t)
    if not setting or isinstance(setting[0], Filtered):
        return None
    row = [float(one) for one in setting if not isinstance(one, Filtered)]
    at = t * (len(row) - 1)
    low = min(int(at), len(row) - 1)
    high = min(low + 1, len(row) - 1)
    return (1 - (at - low)) * row[low] + (at - low) * row[high]
