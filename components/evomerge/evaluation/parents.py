"""The parents: loaded, brought to one architecture, checked for what merging needs.

A base (for task vectors) is the model that `base` names, or the trunk that every parent carries as
`trunk.safetensors`, where it is the same one. RegMean's Grams are each parent's own `grams.safetensors`,
written by whoever trained it.

On a CPU all of them stay where they are, in mapped files: what is in memory are the pages that were read last, which
the system takes back when it needs room. Only the template is a copy.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from components.shared.models.grafting import graft, is_grafted, union_shapes
from components.shared.models.gram import FILE as GRAMS
from components.shared.models.gram import load_grams
from components.shared.models.loading import extend, load, union_config
from components.shared.models.remote_code.configuration_cognate import CognateConfig
from components.shared.models.remote_code.modeling_cognate import CognateForCausalLM
from components.shared.models.remote_code.modeling_wrapped import ForgeWrapped
from components.shared.models.trunk import FILE as TRUNK
from components.shared.models.trunk import read_trunk, trunk_of
from components.shared.runtime.artifact.artifact import Artifact
from components.shared.runtime.errors import ConfigError, InputError

from .compatibility import names_of
from .genome_merger import ParentTensors
from .vocabularies import align, embedding_of

INNER = "inner."
"""Before the names of a wrapped model's own tensors."""


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


def load_parents(
    artifacts: Sequence[Artifact], *, base: Path | None, device: torch.device | str, work: Path
) -> Parents:
    """Load what `compatibility.check` has let pass.

    :param artifacts: models of one architecture.
    :param base: the folder of the base, or None for the trunk that the parents carry.
    :param device: where they go.
    :param work: a folder for what is made of them.
    :raises InputError: different tokenizers, tensors or shapes; a base that does not fit.
    """
    loaded = [load(artifact.path, device=device) for artifact in artifacts]
    models, tokenizer = [model for model, _ in loaded], loaded[0][1]
    notes: list[str] = []
    start, start_tokenizer = (None, None) if base is None else load(base, device=device)
    everything = [*models, *([start] if start is not None else [])]
    others = [own for _, own in loaded[1:]] + ([start_tokenizer] if start_tokenizer is not None else [])
    rows = {len(embedding_of(model)) for model in everything}
    aligned = len(rows) > 1 or any(other.get_vocab() != tokenizer.get_vocab() for other in others)
    if aligned:
        folders = [*(artifact.path for artifact in artifacts), *([base] if base is not None else [])]
        number = None if base is None else len(folders) - 1
        tokenizer = align(everything, folders, number, work / "vocabulary")
        notes.append("the parents' vocabularies differ in added tokens: the merged model has them all")
    wrapped = any(is_grafted(model) for model in models)
    owned = _owned([_by_common_names(model, wrapped=wrapped) for model in models])
    common = _common_architecture(models)
    tensors = [tensors_of(model) for model in common]
    task_base = tensors_of(start) if start is not None else _trunk(artifacts, tensors, device, notes)
    if task_base is not None:
        task_base = _as_wrapped(task_base) if wrapped else task_base
        if aligned and start is None:  # the trunk has other rows, and nothing says which
            shapes = {name: tensor.shape for name, tensor in tensors[0].items()}
            task_base = {name: own for name, own in task_base.items() if own.shape == shapes.get(name)}
    grams = _grams(artifacts, notes)
    if grams is not None and wrapped:
        grams = [_as_wrapped(own) for own in grams]
    try:
        whole = ParentTensors(parents=tensors, base=task_base, owned=owned, grams=grams)
    except ValueError as error:
        raise InputError(
            "the models cannot be merged",
            where="input models",
            why=str(error),
            fix="merge variants of one model",
        ) from error
    return Parents(names_of(artifacts), whole, copy.deepcopy(common[0]), tokenizer, notes)


def _common_architecture(models: Sequence[PreTrainedModel]) -> list[PreTrainedModel]:
    """Every model gets the modules that any of them has, closed; without such modules they are alike already."""
    cognates = [model for model in models if isinstance(model, CognateForCausalLM)]
    try:
        if cognates:
            whole = union_config([cast(CognateConfig, model.config) for model in cognates])
            return [extend(model, memory=whole.memory, refinement=whole.refinement) for model in cognates]
        if any(is_grafted(model) for model in models):
            shapes = union_shapes(models)
            return [
                graft(model, memory=shapes["memory"], refinement=shapes["refinement"]) for model in models
            ]
    except ConfigError as error:
        raise InputError(error.what, where=error.where, why=error.why, fix=error.fix) from error
    return list(models)


def _by_common_names(model: PreTrainedModel, *, wrapped: bool) -> dict[str, Tensor]:
    """A model's tensors, as they are called where all models are wrapped."""
    own = tensors_of(model)
    return _as_wrapped(own) if wrapped and not isinstance(model, ForgeWrapped) else own


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


def _as_wrapped(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors by the names that they have in a wrapped model."""
    ours = (INNER, "memory.", "refinement.")
    return {name if name.startswith(ours) else INNER + name: tensor for name, tensor in tensors.items()}


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


def _trunk(
    artifacts: Sequence[Artifact],
    parents: Sequence[Mapping[str, Tensor]],
    device: torch.device | str,
    notes: list[str],
) -> dict[str, Tensor] | None:
    """The tensors of the trunk that all parents come from, or None."""
    entries = [artifact.manifest.files.get(TRUNK) for artifact in artifacts]
    trunks = {
        trunk_of(artifact.path, str(entry["sha256"]) if entry else None)
        for artifact, entry in zip(artifacts, entries, strict=True)
    }
    if trunks == {None}:
        notes.append("methods of task vectors are left out: the parents carry no trunk, and no base is given")
        return None
    if len(trunks) > 1:
        notes.append("methods of task vectors are left out: the parents come from different trunks")
        return None
    trunk = read_trunk(artifacts[0].path, parents[0])
    return {name: tensor.to(device) for name, tensor in trunk.items()}


def _grams(artifacts: Sequence[Artifact], notes: list[str]) -> list[dict[str, Tensor]] | None:
    """For every parent, the name of a linear weight → its Gram."""
    without = [str(i) for i, artifact in enumerate(artifacts) if not (artifact.path / GRAMS).is_file()]
    if without:
        notes.append(f"RegMean is left out: model {', '.join(without)} has no {GRAMS}")
        return None
    return [
        {f"{path}.weight": gram for path, gram in load_grams(artifact.path).items()} for artifact in artifacts
    ]
