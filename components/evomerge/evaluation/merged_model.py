"""One model in memory whose weights are overwritten with each merge.

Importing torch and building a model takes longer than merging: a worker does it once and then measures genome
after genome.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from components.shared.merging.layer_groups import LayerStack
from components.shared.merging.registry import merge_method
from components.shared.models.remote_code.modeling_wrapped import ForgeWrappedConfig
from components.shared.models.remote_code.projections import linear_form

from ..search.genome import UNIT, Genome
from .calibration import Calibration, CalibrationExamples
from .genome_merger import GenomeMerger


class MergedModel:
    """The merged model.

    :param template: a model with every module of the parents; it is overwritten.
    :param merger: of the parents.
    :param examples: of each parent, drawn when the first genome needs them.
    """

    def __init__(
        self,
        template: PreTrainedModel,
        merger: GenomeMerger,
        examples: Callable[[], Sequence[CalibrationExamples]],
    ) -> None:
        self.template, self.merger, self.examples = template, merger, examples
        self.layers = merger.models.stack.count
        self._deep: PreTrainedModel | None = None

    def load(self, genome: Genome) -> PreTrainedModel:
        """The model that a genome makes, valid until the next call.

        :raises Diverged: numbers are not finite.
        """
        if merge_method(genome.method).kind == "features":
            return self._calibrated(genome)
        path = self.merger.space.layer_path(genome) if genome.path else ()
        same_depth = not path or len(path) == self.layers
        return self._load(
            self.template if same_depth else self._of_depth([layer for _, layer in path]), genome
        )

    @cached_property
    def calibration(self) -> Calibration:
        """What goes into the parents' layers, kept for all genomes."""
        models = self.merger.models
        return Calibration(self.template, models.parents, self.examples(), fitted=models.is_shared)

    def _calibrated(self, genome: Genome) -> PreTrainedModel:
        calibration, models = self.calibration, self.merger.models
        model = self._load(self.template, replace(genome, method="linear"))
        groups = self.merger.layer_groups
        calibration.calibrate(
            model, lambda name: genome.shares(models.stack.group(name, groups)), genome.alpha / UNIT
        )
        return model

    def _load(self, model: PreTrainedModel, genome: Genome) -> PreTrainedModel:
        targets = dict(model.named_parameters()) | dict(model.named_buffers())
        with torch.no_grad():
            for piece in self.merger.pieces(genome):
                piece.write(targets[piece.name])
        return model

    def _of_depth(self, layers: list[int]) -> PreTrainedModel:
        """A model as deep as the path, in the template's own memory as far as that goes; it is overwritten anyway.

        Per-layer lists of the configuration follow the layers.
        """
        config = with_depth(self.template.config, layers)
        if self._deep is None or self._deep.config.to_dict() != config.to_dict():
            with torch.random.fork_rng(devices=[]), torch.device("meta"):
                model = type(self.template)(config)
            linear_form(model)  # as the template was brought to when it was loaded
            share_memory(model, self.template, self.merger.models.stack)
            model.generation_config = self.template.generation_config
            self._deep = model.train(self.template.training)
        return self._deep


def with_depth(config: PreTrainedConfig, layers: Sequence[int]) -> PreTrainedConfig:
    """The config of a model of these layers of another; a memory stands as far up as it did."""
    deep = copy.deepcopy(config)
    inner = deep.inner_config if isinstance(deep, ForgeWrappedConfig) else deep
    before, inner.num_hidden_layers = inner.num_hidden_layers, len(layers)
    kinds = getattr(inner, "layer_types", None)
    if kinds is not None:
        inner.layer_types = [kinds[layer] for layer in layers]
    if isinstance(deep, ForgeWrappedConfig):
        deep.inner = {name: value for name, value in inner.to_dict().items() if name in (deep.inner or {})}
        if deep.memory:
            deep.memory = deep.memory | {"layer": deep.memory["layer"] * len(layers) // before}
    return deep


def share_memory(model: PreTrainedModel, owner: nn.Module, stack: LayerStack) -> None:
    """Give a model on the meta device the tensors of another, by their names; what that lacks is made anew, empty.

    :param stack: of the layers: a buffer that a further layer computes from the configuration is the first layer's.
    """
    parameters = dict(owner.named_parameters(remove_duplicate=False))
    buffers = dict(owner.named_buffers(remove_duplicate=False))
    like = next(iter(parameters.values()))
    for path, module in model.named_modules():
        for name, own in module._parameters.items():
            if own is None:
                continue
            known = parameters.get(f"{path}.{name}")
            if known is None or known.shape != own.shape:
                known = nn.Parameter(
                    torch.empty(own.shape, dtype=like.dtype, device=like.device), requires_grad=False
                )
            module._parameters[name] = known
        for name, own in module._buffers.items():
            if own is not None:
                full = f"{path}.{name}"
                if full not in buffers and (location := stack.locate(full)):
                    full = stack.name(0, location[1])
                module._buffers[name] = buffers[full]
    model.tie_weights()
