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
from transformers import PreTrainedModel

from components.shared.merging.registry import merge_method

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
