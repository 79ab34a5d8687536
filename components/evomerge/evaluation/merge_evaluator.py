"""Evaluates genomes: the parents loaded once, merged by any genome, scored on the items of a split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

from transformers import PreTrainedModel

from components.shared.evaluation.cells import suites_of
from components.shared.merging.registry import merge_method
from components.shared.runtime.artifact.artifact import Artifact
from components.shared.runtime.errors import InputError
from components.shared.tasks.item import Split
from components.shared.training.device import device

from ..search.archive import Measurement
from ..search.genome import Genome
from ..search.space import SearchSpace
from .calibration import CalibrationExamples
from .calibration_examples import best_parent, calibration_examples
from .genome_merger import GenomeMerger, ParentTensors
from .item_scorer import AnswerScores, Fitness, ItemScorer
from .merged_model import MergedModel
from .parents import load_parents


class MergeEvaluator:
    """Holds every parent and one merged model in memory, on the GPU where there is one.

    :param artifacts: the parents.
    :param base: the folder of the base model, or None for the trunk that the parents carry.
    :param methods: what the search may use; what the parents do not allow is left out.
    :param layer_groups: runs of layers with weights of their own, at most as many as there are layers.
    :param repeats: how often a path may go through the row of all layers.
    :param extra_layers: how many layers deeper than a parent a path may make the model.
    :param suites: what fitness is the mean of.
    :param items: of each suite, search split.
    :param fitness: what is measured of an answer.
    :param calibration_items: of each suite, train split.
    :param seed: of items and masks.
    :param batch: items in one forward.
    :param work: a folder for what is made of the parents.
    :raises InputError: the models do not fit together, or leave no method that may be used.
    """

    def __init__(
        self,
        artifacts: Sequence[Artifact],
        *,
        base: Path | None,
        methods: Sequence[str],
        layer_groups: int,
        repeats: int,
        extra_layers: int,
        suites: Sequence[str],
        items: int,
        fitness: Fitness,
        calibration_items: int,
        seed: int,
        batch: int,
        work: Path,
    ) -> None:
        self.suites, self.items, self.fitness, self.seed, self.batch = suites, items, fitness, seed, batch
        self.calibration_items = calibration_items
        self.device = device()
        self.parents = load_parents(artifacts, base=base, device=self.device, work=work)
        tensors = self.parents.tensors
        layers = tensors.stack.count
        layer_groups = min(layer_groups, layers)
        self.space = SearchSpace(
            parents=len(artifacts),
            groups=layer_groups + bool(tensors.outer()),
            methods=_allowed(methods, tensors, self.parents.notes),
            has_base=tensors.base is not None,
            layers=layers,
            repeats=repeats,
            deepest=layers + extra_layers,
        )
        self.merger = GenomeMerger(tensors, self.space, layer_groups=layer_groups, seed=seed)
        self.merged = MergedModel(self.parents.template, self.merger, self._examples)
        self.answered: dict[tuple[ItemScorer, Genome], AnswerScores] = {}

    def _examples(self) -> list[CalibrationExamples]:
        """Items of the train split, each for the parent that answers it best.

        A suite that is held out has none; where fitness is made of such alone, those of all others serve.
        """
        suites = suites_of("train", self.suites) or suites_of("train")
        scorer = self._scorer(suites, "train", self.calibration_items)
        parents = range(self.space.parents)
        answers = [scorer.answers(self.model(self.space.parent(parent))) for parent in parents]
        return calibration_examples(
            scorer.items, best_parent(answers), len(parents), self.parents.tokenizer, self.device
        )

    def model(self, genome: Genome) -> PreTrainedModel:
        """The merged model, valid until the next call.

        :raises Diverged: numbers are not finite.
        """
        return self.merged.load(genome)

    def scorer(self, split: Split, items: int) -> ItemScorer:
        """Of the suites that fitness is made of.

        :param items: of each suite.
        """
        return self._scorer(self.suites, split, items)

    def _scorer(self, suites: Sequence[str], split: Split, items: int) -> ItemScorer:
        return ItemScorer(
            self.parents.tokenizer,
            suites,
            split=split,
            items=items,
            seed=self.seed,
            batch=self.batch,
            fitness=self.fitness,
            device=self.device,
        )

    @cached_property
    def search_scorer(self) -> ItemScorer:
        """Of the split on which fitness is measured."""
        return self.scorer("search", self.items)

    def remember(self, genome: Genome, answers: Mapping[str, list[float]]) -> None:
        """Keep what a merge that another process has measured answered there to the items of the search split."""
        self.answered[self.search_scorer, genome] = AnswerScores.from_json(answers)

    def measure(self, genome: Genome, scorer: ItemScorer, rival: Genome | None = None) -> Measurement:
        """Merge and score a genome.

        :param scorer: of this evaluator.
        :param rival: whom it races with, and so may see fewer items (race.py).
        :raises Diverged: numbers are not finite. The search makes a failure of this and of what torch raises.
        """
        theirs = None if rival is None else self.answers(rival, scorer)
        answers = scorer.answers(self.model(genome), theirs)
        if len(answers.positions) == len(scorer.items):
            self.answered[scorer, genome] = answers
        return scorer.measurement(answers)

    def answers(self, genome: Genome, scorer: ItemScorer) -> AnswerScores:
        """What a merge answers to all items, from before; what only another process has measured is asked again."""
        if (scorer, genome) not in self.answered:
            self.answered[scorer, genome] = scorer.answers(self.model(genome))
        return self.answered[scorer, genome]


def _allowed(methods: Sequence[str], tensors: ParentTensors, notes: Sequence[str]) -> tuple[str, ...]:
    """The methods that these parents allow."""
    allowed = []
    for name in methods:
        method = merge_method(name)
        lacks_base = method.needs_base and tensors.base is None
        lacks_grams = method.needs_grams and tensors.grams is None
        lacks_layers = method.kind == "layers" and not tensors.stack.count
        if not (lacks_base or lacks_grams or lacks_layers):
            allowed.append(name)
    if not allowed:
        raise InputError(
            "no merge method is left",
            where="evomerge.methods",
            why="; ".join(notes),
            fix="allow linear, which needs nothing",
        )
    return tuple(allowed)
