"""Whether models can be merged at all, from their configurations and headers, before any work."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from components.shared.runtime.errors import InputError

from ..layer_groups import LayerStack, layer_stack
from .mapped_model import MappedModel

# What a configuration may say otherwise without the model being another function.
WITHOUT_EFFECT = frozenset(
    {
        "_name_or_path", "architectures", "auto_map", "bos_token_id", "dtype", "eos_token_id", "pad_token_id",
        "tie_word_embeddings", "torch_dtype", "transformers_version", "use_cache", "vocab_size",
    }
)  # fmt: skip


def few(names: Sequence[str]) -> str:
    """The first three, and how many more."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def tied(model: MappedModel) -> bool:
    """Whether the output layer is the embedding."""
    return bool(model.config.get("tie_word_embeddings", False))


def common_tensors(models: Sequence[MappedModel]) -> list[str]:
    """The names that all models have, sorted: what is merged.

    :raises InputError: another architecture; tensors that one model has and another has not.
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
            with_tie, without = (model, first) if tied(model) else (first, model)
            raise InputError(
                "one model ties its output layer to its embedding, and another does not",
                where=f"{with_tie.folder} and {without.folder}",
                why="merged into one matrix, the second would lose its output layer",
                fix="untie the first: set tie_word_embeddings to false and store lm_head.weight",
            )
    names = set(first.tensors)
    if tied(first):  # some files hold the tied matrix twice
        heads = {name for model in models for name in model.tensors if name.endswith("lm_head.weight")}
        names -= heads
        others = [set(model.tensors) - heads for model in models[1:]]
    else:
        others = [set(model.tensors) for model in models[1:]]
    for model, own in zip(models[1:], others, strict=True):
        if missing := sorted(names - own):
            raise InputError("a model lacks tensors", where=str(model.folder), why=few(missing))
        if extra := sorted(own - names):
            raise InputError(
                "a model has tensors that the first has not", where=str(model.folder), why=few(extra)
            )
    return sorted(names)


def is_vocabulary(name: str, models: Sequence[MappedModel], stack: LayerStack) -> bool:
    """Whether a tensor's rows are tokens: a matrix outside the layers, as many rows in each model as it has tokens."""
    return stack.locate(name) is None and all(
        len(model.tensors[name].shape) == 2
        and model.tensors[name].shape[0] == model.config.get("vocab_size", -1)
        for model in models
    )


def check_shapes(names: Sequence[str], models: Sequence[MappedModel], *, aligned: bool) -> LayerStack:
    """Check every tensor's shape.

    :param aligned: rows that are tokens may differ in number.
    :returns: where the layers are.
    :raises InputError: a tensor has another shape than in the first model.
    """
    stack = layer_stack(names)
    for name in names:
        first = models[0].tensors[name].shape
        for model in models[1:]:
            shape = model.tensors[name].shape
            same = shape == first or (
                aligned and is_vocabulary(name, models, stack) and shape[1:] == first[1:]
            )
            if not same:
                raise InputError(
                    "a tensor has another shape",
                    where=f"{model.folder}: {name}",
                    why=f"{list(shape)}, and {list(first)} in the first model",
                    fix="merge models of one size"
                    + ("" if shape[1:] != first[1:] else "; for other vocabularies: --tokenizer base"),
                )
    return stack


def differences(models: Sequence[MappedModel]) -> list[str]:
    """What the configurations say otherwise, in words: the merged model takes the first one's."""
    notes = []
    first = models[0].config
    for model in models[1:]:
        for key in sorted((set(first) | set(model.config)) - WITHOUT_EFFECT):
            a, b = first.get(key, _NONE), model.config.get(key, _NONE)
            if a != b and a is not _NONE and b is not _NONE:
                notes.append(
                    f"{key} is {b!r} in {model.folder.name} and {a!r} in {models[0].folder.name}: {a!r} is taken"
                )
    return notes


_NONE: Any = object()
