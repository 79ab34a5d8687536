"""Whether models can be merged at all, from their configurations and headers, before any work."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from components.shared.runtime.errors import InputError

from ..layer_groups import LayerStack, layer_stack
from .checkpoint import Checkpoint

# What a configuration may say otherwise without the model being another function.
APART = frozenset(
    {
        "_name_or_path", "architectures", "auto_map", "bos_token_id", "dtype", "eos_token_id", "pad_token_id",
        "tie_word_embeddings", "torch_dtype", "transformers_version", "use_cache", "vocab_size",
    }
)  # fmt: skip


def few(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def tied(model: Checkpoint) -> bool:
    return bool(model.config.get("tie_word_embeddings", False))


def tensors(models: Sequence[Checkpoint]) -> list[str]:
    """The names that all models have, sorted: what is merged.

    Raises InputError: another architecture; tensors that one model has and another has not.
    """
    first = models[0]
    for model in models[1:]:
        if model.config.get("model_type") != first.config.get("model_type"):
            raise InputError(
                "the models are of different architectures",
                where=str(model.folder),
                why=f"{model.config.get('model_type')}, and the first is {first.config.get('model_type')}",
                fix="merge models of one architecture",
            )
    for model in models[1:]:
        if tied(model) != tied(first):
            one, other = (model, first) if tied(model) else (first, model)
            raise InputError(
                "one model ties its output layer to its embedding, and another does not",
                where=f"{one.folder} and {other.folder}",
                why="merged into one matrix, the second would lose its output layer",
                fix="untie the first: set tie_word_embeddings to false and store lm_head.weight",
            )
    names = set(first.places)
    if tied(first):  # some files hold the tied matrix twice
        heads = {name for model in models for name in model.places if name.endswith("lm_head.weight")}
        names -= heads
        others = [set(model.places) - heads for model in models[1:]]
    else:
        others = [set(model.places) for model in models[1:]]
    for model, found in zip(models[1:], others, strict=True):
        if missing := sorted(names - found):
            raise InputError("a model lacks tensors", where=str(model.folder), why=few(missing))
        if extra := sorted(found - names):
            raise InputError(
                "a model has tensors that the first has not", where=str(model.folder), why=few(extra)
            )
    return sorted(names)


def is_vocabulary(name: str, models: Sequence[Checkpoint], stack: LayerStack) -> bool:
    """Whether a tensor's rows are tokens: a matrix outside the layers, as many rows in each model as it has tokens."""
    return stack.place(name) is None and all(
        len(model.places[name].shape) == 2
        and model.places[name].shape[0] == model.config.get("vocab_size", -1)
        for model in models
    )


def shapes(names: Sequence[str], models: Sequence[Checkpoint], *, aligned: bool) -> LayerStack:
    """Checks every tensor's shape; aligned: rows that are tokens may differ in number. Returns where the layers are."""
    stack = layer_stack(names)
    for name in names:
        first = models[0].places[name].shape
        for model in models[1:]:
            found = model.places[name].shape
            same = found == first or (
                aligned and is_vocabulary(name, models, stack) and found[1:] == first[1:]
            )
            if not same:
                raise InputError(
                    "a tensor has another shape",
                    where=f"{model.folder}: {name}",
                    why=f"{list(found)}, and {list(first)} in the first model",
                    fix="merge models of one size"
                    + ("" if found[1:] != first[1:] else "; for other vocabularies: --tokenizer base"),
                )
    return stack


def differences(models: Sequence[Checkpoint]) -> list[str]:
    """What the configurations say otherwise, in words: the merged model takes the first one's."""
    notes = []
    first = models[0].config
    for model in models[1:]:
        for key in sorted((set(first) | set(model.config)) - APART):
            a, b = first.get(key, _NONE), model.config.get(key, _NONE)
            if a != b and a is not _NONE and b is not _NONE:
                notes.append(
                    f"{key} is {b!r} in {model.folder.name} and {a!r} in {models[0].folder.name}: {a!r} is taken"
                )
    return notes


_NONE: Any = object()
