"""Whether models can be merged at all, from their configurations and headers, before any work."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from components.shared.runtime.errors import InputError

from ..checkpoint.families import text_config
from ..checkpoint.mapped_model import CARRIED, MappedModel

ALIKE = "give models that are trained from one: all have the same tensors"
# What a configuration may say otherwise without the model being another function.
WITHOUT_EFFECT = frozenset(
    {
        "_name_or_path", "architectures", "auto_map", "bos_token_id", "dtype", "eos_token_id", "pad_token_id",
        "text_config", "tie_word_embeddings", "torch_dtype", "transformers_version", "use_cache", "vocab_size",
    }
)  # fmt: skip


def few(names: Sequence[str]) -> str:
    """The first three, and how many more."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def one_architecture(models: Sequence[MappedModel]) -> None:
    """Refuse models of several architectures.

    :raises InputError: there are.
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


def same_names(first: set[str], own: set[str], model: MappedModel) -> None:
    """Refuse a model that has other tensors than the first.

    :raises InputError: it has.
    """
    if missing := sorted(first - own):
        raise InputError("a model lacks tensors", where=str(model.folder), why=few(missing), fix=ALIKE)
    if extra := sorted(own - first):
        raise InputError(
            "a model has tensors that the first has not", where=str(model.folder), why=few(extra), fix=ALIKE
        )


def same_shape(names: Sequence[str], models: Sequence[MappedModel], *, by_token: bool) -> None:
    """Refuse tensors that cannot be added to each other.

    :param names: of one tensor in each of the models.
    :param by_token: its rows are tokens that are brought together, and may differ in number.
    :raises InputError: another shape, or another type of which one is no number.
    """
    first = models[0].tensors[names[0]]
    for name, model in zip(names[1:], models[1:], strict=True):
        own = model.tensors[name]
        where = f"{model.folder}: {name}"
        if own.shape != first.shape and not (by_token and own.shape[1:] == first.shape[1:]):
            raise InputError(
                "a tensor has another shape",
                where=where,
                why=f"{list(own.shape)}, and {list(first.shape)} in the first model",
                fix="merge models of one size"
                + ("" if own.shape[1:] != first.shape[1:] else "; for other vocabularies: --tokenizer base"),
            )
        if (own.dtype in CARRIED or first.dtype in CARRIED) and (
            own.dtype != first.dtype or not model.flat(name).equal(models[0].flat(names[0]))
        ):
            raise InputError(
                f"a tensor of type {own.dtype} cannot be merged",
                where=where,
                why="whole numbers are carried over where all models have the same",
                fix="merge models that have the same",
            )


def differences(models: Sequence[MappedModel]) -> list[str]:
    """What the configurations say otherwise, in words: the merged model takes the first one's."""
    notes = []
    for model in models[1:]:
        first, own = models[0].config, model.config
        if text_config(first) is not first and text_config(own) is not own:
            first, own = {**first, **text_config(first)}, {**own, **text_config(own)}
        for key in sorted((set(first) | set(own)) - WITHOUT_EFFECT):
            a, b = first.get(key, _NONE), own.get(key, _NONE)
            if a != b and a is not _NONE and b is not _NONE:
                notes.append(
                    f"{key} is {b!r} in {model.folder.name} and {a!r} in {models[0].folder.name}: {a!r} is taken"
                )
    return notes


_NONE: Any = object()
