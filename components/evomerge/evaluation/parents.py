"""The parents: loaded, brought to one architecture, checked for what merging needs.

A base (for task vectors) is the model that `base` names, or the trunk that every parent carries as
`trunk.safetensors`, where it is the same one. RegMean's Grams are each parent's own `grams.safetensors`,
written by whoever trained it.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from components.shared.models.gram import FILE as GRAMS
from components.shared.models.gram import load_grams
from components.shared.models.loading import extend, load, union_config
from components.shared.models.remote_code.configuration_cognate import CognateConfig
from components.shared.models.remote_code.modeling_cognate import CognateForCausalLM
from components.shared.runtime.artifact.artifact import Artifact
from components.shared.runtime.errors import ConfigError, InputError

from .compatibility import names_of
from .genome_merger import ParentTensors

TRUNK = "trunk.safetensors"


@dataclass
class Parents:
    """The loaded parents.

    :param names: for people.
    :param tensors: what is merged.
    :param template: a model of the common architecture, free to overwrite.
    :param notes: what the parents do not allow, in words.
    """

    names: list[str]
    tensors: ParentTensors
    template: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    notes: list[str]


def load_parents(artifacts: Sequence[Artifact], *, base: Path | None, device: torch.device | str) -> Parents:
    """Load what `compatibility.check` has let pass.

    :param artifacts: models of one architecture.
    :param base: the folder of the base, or None for the trunk that the parents carry.
    :param device: where they go.
    :raises InputError: different tokenizers, tensors or shapes; a base that does not fit.
    """
    loaded = [load(artifact.path, device=device) for artifact in artifacts]
    tokenizer = loaded[0][1]
    for artifact, (_, other) in zip(artifacts, loaded, strict=True):
        if other.get_vocab() != tokenizer.get_vocab():
            raise InputError(
                "the models have different vocabularies",
                where=str(artifact.path),
                why="the same token would mean different things to the parents",
                fix="merge models with one tokenizer",
            )
    owned = _owned([tensors_of(model) for model, _ in loaded])
    common = _common_architecture([model for model, _ in loaded])
    tensors = [tensors_of(model) for model in common]
    notes: list[str] = []
    try:
        models = ParentTensors(
            parents=tensors,
            base=_base(artifacts, base, device, notes),
            owned=owned,
            grams=_grams(artifacts, notes),
        )
    except ValueError as error:
        raise InputError(
            "the models cannot be merged",
            where="input models",
            why=str(error),
            fix="merge variants of one model",
        ) from error
    return Parents(names_of(artifacts), models, copy.deepcopy(common[0]), tokenizer, notes)


def _common_architecture(models: Sequence[PreTrainedModel]) -> list[PreTrainedModel]:
    """Cognates get the modules that any of them has, closed; other models are of one architecture already."""
    cognates = [model for model in models if isinstance(model, CognateForCausalLM)]
    if not cognates:
        return list(models)
    try:
        whole = union_config([cast(CognateConfig, model.config) for model in cognates])
    except ConfigError as error:
        raise InputError(error.what, where=error.where, why=error.why, fix=error.fix) from error
    return [extend(model, memory=whole.memory, refinement=whole.refinement) for model in cognates]


def tensors_of(model: PreTrainedModel) -> dict[str, Tensor]:
    """Parameters and persistent floating-point buffers by name; tied ones once."""
    state = model.state_dict()
    tensors = {name: parameter.detach() for name, parameter in model.named_parameters()}
    tensors.update(
        {
            name: buffer
            for name, buffer in model.named_buffers()
            if name in state and buffer.is_floating_point()
        }
    )
    return tensors


def _owned(parents: Sequence[Mapping[str, Tensor]]) -> list[frozenset[str]]:
    """The names that each parent has of its own: without those of a closed module, with which it has not learnt.

    Where nobody has learnt with a module, those that have it own it.
    """
    learnt = []
    for tensors in parents:
        gates = [name for name, t in tensors.items() if name.endswith(".gate") and not t.any()]
        closed = tuple(name.removesuffix("gate") for name in gates)
        learnt.append({name for name in tensors if not (closed and name.startswith(closed))})
    by_anyone = set().union(*learnt)
    return [
        frozenset(names | (tensors.keys() - by_anyone))
        for names, tensors in zip(learnt, parents, strict=True)
    ]


def _base(
    artifacts: Sequence[Artifact], base: Path | None, device: torch.device | str, notes: list[str]
) -> dict[str, Tensor] | None:
    if base is not None:
        return tensors_of(load(base, device=device)[0])
    trunks = {
        entry["sha256"] if (entry := artifact.manifest.files.get(TRUNK)) else None for artifact in artifacts
    }
    if trunks == {None}:
        notes.append("methods of task vectors are left out: the parents carry no trunk, and no base is given")
        return None
    if len(trunks) > 1:
        notes.append("methods of task vectors are left out: the parents come from different trunks")
        return None
    return load_file(artifacts[0].path / TRUNK, device=str(device))


def _grams(artifacts: Sequence[Artifact], notes: list[str]) -> list[dict[str, Tensor]] | None:
    """For every parent, the name of a linear weight → its Gram."""
    without = [str(i) for i, artifact in enumerate(artifacts) if not (artifact.path / GRAMS).is_file()]
    if without:
        notes.append(f"RegMean is left out: model {', '.join(without)} has no {GRAMS}")
        return None
    return [
        {f"{path}.weight": gram for path, gram in load_grams(artifact.path).items()} for artifact in artifacts
    ]
