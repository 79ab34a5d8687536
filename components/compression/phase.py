"""Phase 8: every tensor gets the code that loses least for its bytes, and the artifact nothing that it does not need."""

from __future__ import annotations

import functools
import itertools
import shutil
from typing import Any

import numpy as np
import torch

from components.shared.agent.agent import AGENT, Agent
from components.shared.evaluation.report_split import score
from components.shared.evaluation.suites import all_items
from components.shared.models.card import model_card
from components.shared.models.half import round_to_half
from components.shared.models.loading import load, wrap
from components.shared.models.remote_code.coded import Coded
from components.shared.runtime.errors import InputError
from components.shared.runtime.malloc import set_mmap_threshold
from components.shared.runtime.phase import Phase
from components.shared.tasks.batches import without_scratch
from components.shared.tasks.item import Item, Split

from .allocation.allocate import Choice, frontier, within
from .allocation.comparison import Scale, comparison, controls, curve, thin
from .allocation.evaluator import Trial, codable
from .allocation.mapped import map_weights
from .allocation.sensitivity import offers, weigh
from .allocation.tensors import Tensors
from .allocation.workers import Workers
from .artifact import coded, size_of, spent, unfold, write
from .codecs.presets import CHAIN
from .component import PHASE
from .recovery import recover
from .settings import BEST, CHAINED, FIXED, Settings

LARGE = 1 << 27
"""Bytes of a model from which on memory is worth more than the time that it takes to fault it in again. Once a small object
that stays has moved into a freed block that was kept, the next large one needs another: a hole for every layer."""


class Compression(Phase[Settings], spec=PHASE):
    """Chooses a code for each tensor by measured rate and distortion, and writes the final, smallest artifact."""

    def validate_input(self) -> None:
        """There is something to code, and, where quality is the budget, something to lose."""
        run, settings = self.run, self.run.settings
        where = str(run.artifact.path)
        if size_of(run.artifact.path) >= LARGE:
            set_mmap_threshold(1 << 17)
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        model, tokenizer = load(run.artifact.path, device=self.device)
        model = (model if hasattr(model.config, "storage") else wrap(model)).requires_grad_(False)
        self.trial = Trial(model, tokenizer, run.config.evaluation.batch)
        self.modules = codable(model, settings.smallest)
        if not self.modules:
            why = f"none has {settings.smallest} weights or more"
            fix = "lower compression.smallest"
            raise InputError("the model has no matrix to code", where=where, why=why, fix=fix)
        self.weights = map_weights(self.modules, run.work / "weights")
        for path, file in self.weights.items():
            if not np.isfinite(np.load(file, mmap_mode="r")).all():
                shutil.rmtree(run.work / "weights")
                fix = "look at the phase that made it"
                raise InputError("a weight is NaN or infinite", where=path, fix=fix)
        self.recovery: dict[str, float] = {}
        uniform = self.trial.uniform_loss()
        self.search, self.select = (
            Scale(items, self.trial.loss(items), uniform)
            for items in (self._items("search"), self._items("select"))
        )
        if settings.recipe == BEST and settings.bytes is None and not self.search.meaningful:
            shutil.rmtree(run.work / "weights")
            raise InputError(
                f"the model does hardly better than a uniform guess ({uniform:.3f} nats a token)",
                where=where,
                why=f"its loss on held-out items is {self.search.before:.3f}: there is no knowledge to retain",
                fix="give a size instead of a retention: compression.bytes=…",
            )

    def execute(self) -> None:
        """The story: calibrate, measure every code on every tensor, choose, publish, compare."""
        with Workers(self.run.settings.threads) as workers:
            hessians = self.trial.hessians(
                self._items("train"), self.run.work / "hessians", self.run.progress
            )
            round_to_half(self.trial.model, self.modules.values())
            self.tensors = Tensors(
                self.weights,
                hessians,
                self.run.checkpoints,
                workers,
                self.run.progress,
                self.run.work / "codes",
                seed=self.run.seed,
            )
            self._measure(self._choose())

    def _choose(self) -> dict[str, str]:
        """Publish the codes that the recipe leads to, and what stands beside them for the report; their names by path."""
        run, settings = self.run, self.run.settings
        if settings.recipe == BEST:
            self.tensors.measure(settings.candidates, settings.sample)
            weigh(self.tensors, self.trial, self.search.items, run.progress)
            choices = frontier(offers(self.tensors.points, self.tensors.sensitivity))
            plan = self._publish_within(choices) if settings.bytes else self._retain(choices)
            self._compare(choices, plan)
            if settings.recovery.steps:
                self._recover(plan)
        else:
            name = CHAIN if settings.recipe == CHAINED else settings.recipe.removeprefix(FIXED)
            plan = dict.fromkeys(self.modules, name)
            self._publish(plan)
            if settings.recipe == CHAINED:
                self._account_for_stages(plan)
        return plan

    def get_metrics(self) -> dict[str, float]:
        return self.metrics

    def _items(self, split: Split, items: int = 0) -> list[Item]:
        """Of each suite `items`, or as many as the settings give to the split."""
        settings = self.run.settings
        of_split = {
            "train": settings.calibration_items,
            "search": settings.search_items,
            "select": settings.select_items,
        }
        found = all_items(split=split, items=items or of_split[split], seed=self.run.seed)
        return [without_scratch(item) for item in found]

    def _retain(self, choices: list[Choice]) -> dict[str, str]:
        """Publish the fewest bytes that keep the retention asked for, on the search split.

        Bisection along the frontier: retention is taken to rise along it, as harm falls.
        """
        wanted, low, high = self.run.settings.retention, 0, len(choices) - 1
        rounds = itertools.count()

        @functools.cache
        def kept(at: int) -> float:
            weights = self.tensors.decoded(choices[at].names, self.trial.dtype)
            self.run.progress.start("choose", max(len(choices) - 1, 1).bit_length() + 1, at=next(rounds))
            with self.trial.wearing(weights):
                found = self.search.retained(self.trial.loss(self.search.items))
            assert found is not None  # validate_input saw to it
            self.run.progress.step(retention=found, bytes=choices[at].bytes)
            return found

        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if kept(middle) >= wanted else (middle + 1, high)
        if kept(low) < wanted:
            self.run.progress.note(
                f"no choice keeps {wanted:.4f} on the search split; the least harmful keeps {kept(low):.4f}"
            )
        plan = dict(choices[low].names)
        self._publish(plan)
        return plan

    def _publish_within(self, choices: list[Choice]) -> dict[str, str]:
        """Publish the least harm in the bytes asked for, the whole artifact counted."""
        budget, overhead = self.run.settings.bytes, 0
        while True:
            choice = within(choices, budget - overhead)
            if choice is None:
                raise InputError(
                    f"the model does not fit into {budget:,} bytes",
                    where="compression.bytes",
                    why=f"the smallest choice of codes takes {choices[0].bytes:,}, all else {overhead:,}",
                    fix="give more bytes, or add cheaper codes to compression.candidates",
                )
            plan = dict(choice.names)
            self._publish(plan)
            if size_of(self.run.output) <= budget:
                return plan
            overhead = size_of(self.run.output) - choice.bytes

    def _publish(self, plan: dict[str, str]) -> None:
        """Write the artifact that a plan leads to, in the place of any other."""
        run = self.run
        total = self.tensors.bytes(plan)
        codes = self.tensors.coded(plan)
        facts = {"recipe": run.settings.recipe, "coded tensors": f"{len(plan)} in {total:,} bytes"}
        with coded(self.trial.model, codes):
            card = model_card("Compressed agent", __doc__ or "", facts=facts)
            write(self.trial.model, self.trial.tokenizer, run.artifact.path, run.output, card=card)

    def _recover(self, plan: dict[str, str]) -> None:
        """Let norms, biases and gates make up for what the codes lost, and publish again; kept where it helps on the
        search split, and reported on the select split."""
        run, settings = self.run, self.run.settings.recovery
        lessons = self.trial.reference(self._items("train", settings.items))
        judged = self.trial.reference(self.search.items)
        with self.trial.wearing(self.tensors.decoded(plan, self.trial.dtype)):
            before = self.trial.nll(self.select.items)
            found = recover(
                self.trial, lessons, judged, steps=settings.steps, lr=settings.lr, progress=run.progress
            )
            after = self.trial.nll(self.select.items)
        said = "kept" if found.kept else "taken back"
        run.progress.note(f"recovery: KL {found.before:.4f} → {found.after:.4f} on the search split, {said}")
        self.recovery = {
            "recovery_kept": float(found.kept),
            "kl_coded": found.before,
            "kl_recovered": found.after,
        }
        claim = "what no code touches learns to make up for the codes"
        run.extra["controls"].append(
            comparison(claim, ("norms, biases and gates distilled", after), ("as they were", before))
        )
        if found.kept:
            self._publish(plan)

    def _compare(self, choices: list[Choice], plan: dict[str, str]) -> None:
        """The curve of size against retention, and every codec alone, for the report."""
        run, settings = self.run, self.run.settings
        overhead = size_of(run.output) - self.tensors.bytes(plan)
        points = thin(choices, settings.curve)
        if points:
            found = self._curve(points, overhead)
            run.extra["curves"] = {"size against retention": found}
        run.extra["controls"] = controls(
            settings.controls, plan, self.tensors, self.trial, self.select, run.progress
        )

    def _curve(self, choices: list[Choice], overhead: int) -> dict[str, Any]:
        """Retention at the sizes of the choices, measured on the select split."""
        return curve(
            choices,
            self.tensors,
            self.trial,
            self.select,
            self.run.progress,
            overhead=overhead,
            full=4 * self._parameters(),
        )

    def _parameters(self) -> int:
        """What the model computes with, coded weights counted as weights."""
        as_codes = [path for path, module in self.modules.items() if isinstance(module, Coded)]
        return self.trial.model.num_parameters() + sum(self.tensors.weight(path).size for path in as_codes)

    def _account_for_stages(self, plan: dict[str, str]) -> None:
        """What the artifact would be after each stage of the chain: its bytes and its retention."""
        stages = CHAIN.split("+")
        choices = []
        for number in range(1, len(stages) + 1):
            names = dict.fromkeys(plan, "+".join(stages[:number]))
            choices.append(Choice(names, self.tensors.bytes(names), 0.0))
        overhead = size_of(self.run.output) - self.tensors.bytes(plan)
        found = self._curve(choices, overhead)
        self.run.extra["curves"] = {f"stages: {', '.join(stages)}": found}

    def _measure(self, plan: dict[str, str]) -> None:
        """Score the artifact as it was written, and account for its bytes."""
        run = self.run
        agent = Agent.load(run.output, device=self.device) if (run.output / AGENT).is_file() else None
        model, tokenizer = (agent.model, agent.tokenizer) if agent else load(run.output, device=self.device)
        unfold(model, self.tensors.coded(plan), self.tensors.decoded(plan))
        parameters, size = self._parameters(), size_of(run.output)
        after = Trial(model, tokenizer, self.trial.batch).loss(self.select.items)
        self.metrics = {
            "bytes": size,
            "bits_per_parameter": 8 * size / parameters,
            "times_smaller": 4 * parameters / size,
            "loss_before": self.select.before,
            "loss_after": after,
        }
        self.metrics |= self.recovery
        retained = self.select.retained(after)
        if retained is not None:
            self.metrics["retention"] = retained
        run.extra["sizes"] = spent(self.tensors, plan, size)
        score(run, agent.answers if agent else model, tokenizer)
