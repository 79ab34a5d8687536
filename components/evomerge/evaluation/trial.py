"""A trial: the parents loaded once, merged by any genome, judged on the items of a split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

import torch
from transformers import PreTrainedModel

from components.shared.merging.methods import METHODS, PATHS
from components.shared.runtime.artifact.artifact import Artifact
from components.shared.runtime.errors import InputError
from components.shared.tasks.item import Split

from ..search.archive import Measurement
from ..search.genome import Genome
from ..search.space import Space
from ..settings import Settings
from .calibration import Examples
from .examples import best_parent, examples
from .judge import Answers, Judge
from .merging import Merger
from .parents import load_parents
from .workbench import Workbench


class Trial:
    """Holds every parent and one merged model in memory, on the GPU where there is one."""

    def __init__(
        self, artifacts: Sequence[Artifact], settings: Settings, *, base: Path | None, seed: int, batch: int
    ) -> None:
        """base: the folder of the base model, or None for the trunk that the parents carry.

        Raises InputError where the models do not fit together, or leave no method that may be used.
        """
        self.settings, self.seed, self.batch = settings, seed, batch
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.parents = load_parents(artifacts, base=base, device=self.device)
        stack = self.parents.models.stack
        layer_groups = min(settings.layer_groups, stack.count)
        self.space = Space(
            parents=len(artifacts),
            groups=layer_groups + bool(self.parents.models.outer()),
            methods=self._allowed(),
            has_base=self.parents.models.base is not None,
            layers=stack.count,
            repeats=settings.repeats,
            deepest=stack.count + settings.extra_layers,
        )
        merger = Merger(self.parents.models, self.space, layer_groups=layer_groups, seed=seed)
        self.answered: dict[tuple[Judge, Genome], Answers] = {}
        self.bench = Workbench(self.parents.template, merger, self._examples)

    def _allowed(self) -> tuple[str, ...]:
        """The methods of the settings that these parents allow."""
        models = self.parents.models
        lacking = {name for name, method in METHODS.items() if method.needs_base and models.base is None}
        lacking |= {name for name, method in METHODS.items() if method.needs_grams and models.grams is None}
        allowed = tuple(
            name
            for name in self.settings.methods
            if name not in lacking and (name not in PATHS or models.stack.count)
        )
        if not allowed:
            raise InputError(
                "no merge method is left",
                where="evomerge.methods",
                why="; ".join(self.parents.notes),
                fix="allow linear, which needs nothing",
            )
        return allowed

    def _examples(self) -> list[Examples]:
        """Items of the train split, each for the parent that answers it best."""
        judge = self.judge("train", self.settings.calibration_items)
        answers = [judge.answers(self.model(self.space.parent(i))) for i in range(self.space.parents)]
        chosen = best_parent(answers)
        return examples(judge.items, chosen, self.space.parents, self.parents.tokenizer, self.device)

    def model(self, genome: Genome) -> PreTrainedModel:
        """The merged model, valid until the next call."""
        return self.bench.model(genome)

    def judge(self, split: Split, items: int) -> Judge:
        """Of the suites that fitness is made of."""
        return Judge(
            self.parents.tokenizer,
            self.settings.suites,
            split=split,
            items=items,
            seed=self.seed,
            batch=self.batch,
            fitness=self.settings.fitness,
            device=self.device,
        )

    @cached_property
    def search_judge(self) -> Judge:
        """Of the split on which fitness is measured."""
        return self.judge("search", self.settings.items)

    def remember(self, genome: Genome, answers: Mapping[str, list[float]]) -> None:
        """What a merge that another process has measured answered there to the items of the search split."""
        self.answered[self.search_judge, genome] = Answers.from_json(answers)

    def measure(self, genome: Genome, judge: Judge, rival: Genome | None = None) -> Measurement:
        """Of all items, or of as many as the race with a rival takes (race.py).

        Raises what merging and judging raise; the search makes a failure of it.
        """
        theirs = None if rival is None else self.answers(rival, judge)
        answers = judge.answers(self.model(genome), theirs)
        if len(answers.places) == len(judge.items):
            self.answered[judge, genome] = answers
        return judge.measurement(answers)

    def answers(self, genome: Genome, judge: Judge) -> Answers:
        """What a merge answers to all items, from before; what only another process has measured is asked again."""
        if (judge, genome) not in self.answered:
            self.answered[judge, genome] = judge.answers(self.model(genome))
        return self.answered[judge, genome]
