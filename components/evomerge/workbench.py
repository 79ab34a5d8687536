"""The workbench: one model in memory whose weights are overwritten with each merge.

Importing torch and building a model takes longer than merging: a worker does it once and then measures genome
after genome.
"""

from __future__ import annotations

import copy

import torch
from transformers import PreTrainedModel

from .genome import Genome
from .merging import Merger


class Workbench:
    """template: a model with every module of the parents; it is overwritten."""

    def __init__(self, template: PreTrainedModel, merger: Merger) -> None:
        self.template, self.merger = template, merger
        self.layers = merger.models.stack.count
        self._deep: PreTrainedModel | None = None

    def model(self, genome: Genome) -> PreTrainedModel:
        """The merged model, valid until the next call. Raises Diverged on numbers that are not finite."""
        places = self.merger.space.places(genome) if genome.path else ()
        same = not places or len(places) == self.layers
        model = self.template if same else self._of_depth([layer for _, layer in places])
        targets = dict(model.named_parameters()) | dict(model.named_buffers())
        with torch.no_grad():
            for name, tensor in self.merger.merged(genome):
                targets[name].copy_(tensor)
        return model

    def _of_depth(self, layers: list[int]) -> PreTrainedModel:
        """A model as deep as the path; per-layer lists of the configuration follow the layers."""
        config = copy.deepcopy(self.template.config)
        config.num_hidden_layers = len(layers)
        kinds = getattr(config, "layer_types", None)
        if kinds is not None:
            config.layer_types = [kinds[layer] for layer in layers]
        if self._deep is None or self._deep.config.to_dict() != config.to_dict():
            with torch.random.fork_rng():
                model = type(self.template)(config)
            first = next(self.template.parameters())
            model.generation_config = self.template.generation_config
            self._deep = model.to(first)  # type: ignore[arg-type]
        return self._deep
