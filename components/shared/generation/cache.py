"""A cache of keys and values whose rows come and go: each row is a text, and all texts end at the same column.

    row 0   · · · · a a a a │        the columns of all layers between `start` and `end`; a text shorter than the window
    row 1   b b b b b b b b │        has dots before it, which the attention mask leaves out
    row 2   · · · · · · c c │ ← every step writes here, for all rows

Keys and values lie in buffers with room at the end, so that a step copies one column and not the whole cache. A row that
has ended gives its place to another text's. Layers with a sliding window keep all columns: masks hide them.
"""

from __future__ import annotations

import inspect
from typing import Any

from torch import Tensor
from transformers import Cache
from transformers.cache_utils import CacheLayerMixin

from components.shared.runtime.errors import InputError

ROOM = 64
"""Columns that a buffer has at least, beyond what it is made for."""
KINDS = ("full_attention", "sliding_attention")
"""The kinds of layers whose cache is keys and values of all positions."""


class RowLayer(CacheLayerMixin):
    """The keys and values of one layer, (rows, heads, columns, size) each."""

    supports_early_init = False

    def __init__(self) -> None:
        super().__init__()
        self.buffers: list[Tensor] = []
        self.start = self.end = 0

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Make the buffers."""
        room = key_states.shape[2] + ROOM
        self.buffers = [t.new_zeros(*t.shape[:2], room, t.shape[3]) for t in (key_states, value_states)]
        self.is_initialized = True

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Write further columns; all of the window is returned, as views."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        end = self.end + key_states.shape[2]
        if end > self.buffers[0].shape[2]:
            self.move(left=0, right=key_states.shape[2] + ROOM + self.get_seq_length() // 2)
            end = self.end + key_states.shape[2]
        for buffer, states in zip(self.buffers, (key_states, value_states), strict=True):
            buffer[:, :, self.end : end] = states
        self.end = end
        keys, values = (buffer[:, :, self.start : end] for buffer in self.buffers)
        return keys, values

    def move(self, *, left: int, right: int) -> None:
        """Move the window into new buffers with `left` columns before it and `right` behind."""
        width = self.get_seq_length()
        for number, old in enumerate(self.buffers):
            new = old.new_zeros(*old.shape[:2], left + width + right, old.shape[3])
            new[:, :, left : left + width] = old[:, :, self.start : self.end]
            self.buffers[number] = new
        self.start, self.end = left, left + width

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep these rows, in this order; one may be named several times."""
        self.buffers = [buffer.index_select(0, indices) for buffer in self.buffers]

    def replace_rows(self, rows: Tensor, other: RowLayer) -> None:
        """Put the rows of another cache in place of these. The window grows to the left where theirs is wider."""
        width, mine = other.get_seq_length(), self.get_seq_length()
        if width > mine:
            if self.end < width:
                self.move(left=width - mine, right=ROOM + width // 2)
            self.start = self.end - width
        for buffer, theirs in zip(self.buffers, other.buffers, strict=True):
            buffer[rows, :, self.end - width : self.end] = theirs[:, :, other.start : other.end]

    def trim(self, width: int) -> None:
        """Forget the columns before the last `width`: no row reaches further back."""
        self.start = max(self.start, self.end - width)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Columns of a mask for a query of this length, and where they begin."""
        return self.get_seq_length() + query_length, 0

    def get_seq_length(self) -> int:
        """Columns of the window."""
        return self.end - self.start

    def get_max_length(self) -> int:
        """There is none: −1."""
        return -1


class RowCache(Cache):
    """A cache of RowLayers, for a model whose every layer keeps keys and values; further layers may hold state of rows.

    :param layers: how many layers of keys and values the model asks for.
    """

    def __init__(self, layers: int) -> None:
        super().__init__(layers=[RowLayer() for _ in range(layers)])

    def stateful(self) -> list[Any]:
        """The layers that hold rows; one that shares another's keys and values holds none."""
        layers: list[Any] = self.layers
        return [layer for layer in layers if layer.is_initialized or not isinstance(layer, RowLayer)]

    def select(self, rows: Tensor) -> None:
        """Keep these rows, in this order."""
        for layer in self.stateful():
            layer.batch_select_indices(rows)

    def replace(self, rows: Tensor, other: RowCache) -> None:
        """Put the rows of another cache of the same model in place of these."""
        for mine, theirs in zip(self.stateful(), other.stateful(), strict=True):
            mine.replace_rows(rows, theirs)

    def trim(self, width: int) -> None:
        """Forget the columns before the last `width`."""
        for layer in self.layers:
            if isinstance(layer, RowLayer):
                layer.trim(width)


def row_cache(model: Any) -> RowCache:
    """An empty cache for a model."""
    config, own = model.config, inner(model).config
    layers = config.get_text_config().num_hidden_layers
    if own.model_type == "cognate" and own.refinement:
        layers += own.refinement_steps
    if isinstance(grafted := getattr(config, "refinement", None), dict):
        layers += grafted["steps"]
    return RowCache(layers)


def inner(model: Any) -> Any:
    """The model that computes: what a wrapper passes its calls on to."""
    return getattr(model, "inner", model)


def takes(model: Any) -> frozenset[str]:
    """The names of what the model's forward pass takes, among those that differ from family to family."""
    wanted = {"position_ids", "past_key_values", "logits_to_keep", "attention_mask"}
    names = set(inspect.signature(inner(model).forward).parameters)
    if inner(model).config.model_type == "cognate":
        names |= wanted
    return frozenset(wanted & names)


def why_not(model: Any) -> str:
    """Why texts of this model cannot go on side by side; empty where they can."""
    config = model.config.get_text_config()
    kinds = sorted({*(getattr(config, "layer_types", None) or [])} - {*KINDS})
    if kinds:
        return f"its layers {', '.join(kinds)} keep another state than keys and values"
    if not {"past_key_values", "attention_mask"} <= takes(model):
        return "its forward pass takes no cache of keys and values with a mask"
    if getattr(config, "is_encoder_decoder", False):
        return "it is an encoder and a decoder"
    return ""


def require_rows(model: Any) -> None:
    """Refuse a model whose texts cannot go on side by side.

    :raises InputError: saying what stands against it.
    """
    if reason := why_not(model):
        raise InputError(
            f"models of type {getattr(model.config, 'model_type', '?')} cannot write in batches",
            where="generation", why=reason,
            fix="give a decoder whose layers attend to all positions or to a sliding window",
        )  # fmt: skip
