"""Phase 8: every tensor gets the code that loses least for its bytes, and the artifact nothing that it does not need."""

from __future__ import annotations

import functools
import itertools
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from components.shared.agent.agent import AGENT, Agent
from components.shared.evaluation.report_split import score, score_thinking
from components.shared.evaluation.suites import all_items
from components.shared.models.card import model_card
from components.shared.models.half import round_to_half
from components.shared.models.loading import load, wrap
from components.shared.models.remote_code.coded import Coded
from components.shared.runtime.errors import InputError
from components.shared.runtime.phase import Phase
from components.shared.runtime.store.local_copy import local_file
from components.shared.tasks.batches import without_scratch
from components.shared.tasks.item import Item, Split
from components.shared.training.device import device

from .allocation.allocate import Allocation, frontier, within
from .allocation.comparison import RetentionScale, comparison, controls, curve, evenly_spread
from .allocation.evaluator import Evaluator, codable
from .allocation.fisher import calibrate
from .allocation.mapped import map_weights
from .allocation.sensitivity import measure_sensitivities, rate_points
from .allocation.tensors import Tensors
from .allocation.text import Material, TextRows, text_metrics, text_rows
from .allocation.workers import Workers
from .artifact import attach_decoded, folder_size, size_breakdown, with_codes, write_model
from .codecs.codec import Code
from .component import PHASE
from .recovery import PARTS, recover
from .settings import BEST, FIXED, STAGED, Settings
from .stages import after_each_preset, worst_degradation

__all__ = ["Compression"]


class Compression(Phase[Settings], spec=PHASE):
    """Chooses a code for each tensor by measured rate and distortion, and writes the final, smallest artifact."""

    def validate_input(self) -> None:
        """There is something to code, and, where quality is the budget, something to lose."""
        run, settings = self.run, self.run.settings
        where = str(run.artifact.path)
        self.device = str(device())
        model, tokenizer = load(run.artifact.path, device=self.device)
        model = (model if hasattr(model.config, "storage") else wrap(model)).requires_grad_(False)
        self.evaluator = Evaluator(model, tokenizer, run.config.evaluation.batch)
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
        self.retained: list[float] = []  # after each stage, where there are several
        uniform = self.evaluator.uniform_loss()
        self.calibration, searched, selected = self._material()
        self.search, self.select = (
            RetentionScale(items, self.evaluator.loss(items), uniform) for items in (searched, selected)
        )
        if settings.recipe == BEST and settings.size is None and not self.search.meaningful:
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
            hessians, importance, sensitivity = self._calibrate()
            round_to_half(self.evaluator.model, self.modules.values())
            self.tensors = Tensors(
                self.weights,
                hessians,
                self.run.checkpoints,
                workers,
                self.run.progress,
                self.run.work / "codes",
                seed=self.run.seed,
                importance=importance,
            )
            self.tensors.sensitivity |= sensitivity
            self._measure(self._choose())

    def _material(self) -> tuple[Material, Material, Material]:
        """What calibrates, what chooses and what reports: rows of a text where there is one, items of the suites else."""
        settings = self.run.settings.calibration
        if settings.text is None:
            return self._items("train"), self._items("search"), self._items("select")
        row, half = settings.row, settings.held_out // 2
        counts = [max(tokens // row, 1) for tokens in (settings.tokens, half, half)]
        train, search, select = text_rows(self.evaluator.tokenizer, local_file(settings.text), row, counts)
        return train, search, select

    def _calibrate(self) -> tuple[dict[str, Path], dict[str, Path], dict[str, float]]:
        """Hessians, and on a text what errors weigh too: sensitivities of items are measured tensor by tensor."""
        run, folder = self.run, self.run.work / "hessians"
        if isinstance(self.calibration, TextRows):
            return calibrate(
                self.evaluator.model, self.modules, self.calibration, folder, run.progress, seed=run.seed
            )
        return self.evaluator.hessians(self.calibration, folder, run.progress), {}, {}

    def _choose(self) -> dict[str, Code]:
        """Publish the codes that the recipe leads to, and what stands beside them for the report; they, by path."""
        run, settings = self.run, self.run.settings
        if settings.recipe.startswith(FIXED):
            return self._publish(dict.fromkeys(self.modules, settings.recipe.removeprefix(FIXED)))
        if settings.recipe.startswith(STAGED):
            return self._publish_stages(int(settings.recipe.removeprefix(STAGED)))
        self.tensors.measure(settings.candidates, settings.sample)
        if not isinstance(self.search.items, TextRows):
            measure_sensitivities(self.tensors, self.evaluator, self.search.items, run.progress)
        allocations = frontier(rate_points(self.tensors.points, self.tensors.sensitivity))
        plan = (
            self._publish_within(allocations, settings.size) if settings.size else self._retain(allocations)
        )
        self._compare(allocations, plan)
        if settings.recovery.steps:
            self._recover(plan)
        return plan

    def get_metrics(self) -> dict[str, float]:
        """Bytes, bits a parameter, losses in nats a token, retention, and what recovery did."""
        return self.metrics

    def _items(self, split: Split, items: int = 0) -> list[Item]:
        """Of each suite `items`, or as many as the settings give to the split."""
        settings = self.run.settings
        of_split = {
            "train": settings.calibration_items,
            "search": settings.search_items,
            "select": settings.select_items,
        }
        items_of_split = all_items(split=split, items=items or of_split[split], seed=self.run.seed)
        return [without_scratch(item) for item in items_of_split]

    def _retain(self, allocations: list[Allocation]) -> dict[str, Code]:
        """Publish the fewest bytes that keep the retention asked for, on the search split.

        Bisection along the frontier: retention is taken to rise along it, as the KL falls.
        """
        target, low, high = self.run.settings.retention, 0, len(allocations) - 1
        rounds = itertools.count()

        @functools.cache
        def retention_of(index: int) -> float:
            weights = self.tensors.decoded(allocations[index].presets, self.evaluator.dtype)
            self.run.progress.start("choose", max(len(allocations) - 1, 1).bit_length() + 1, at=next(rounds))
            with self.evaluator.with_weights(weights):
                retention = self.search.retained(self.evaluator.loss(self.search.items))
            assert retention is not None  # validate_input saw to it
            self.run.progress.step(retention=retention, bytes=allocations[index].bytes)
            return retention

        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if retention_of(middle) >= target else (middle + 1, high)
        if retention_of(low) < target:
            self.run.progress.note(
                f"no allocation keeps {target:.4f} on the search split; the one of least KL keeps {retention_of(low):.4f}"
            )
        return self._publish(allocations[low].presets)

    def _publish_within(self, allocations: list[Allocation], budget: int) -> dict[str, Code]:
        """Publish the least KL in the bytes asked for, the whole artifact counted."""
        overhead = 0
        while True:
            allocation = within(allocations, budget - overhead)
            if allocation is None:
                raise InputError(
                    f"the model does not fit into {budget:,} bytes",
                    where="compression.bytes",
                    why=f"the smallest choice of codes takes {allocations[0].bytes:,}, all else {overhead:,}",
                    fix="give more bytes, or add cheaper presets to compression.candidates",
                )
            plan = self._publish(allocation.presets)
            if folder_size(self.run.output) <= budget:
                return plan
            overhead = folder_size(self.run.output) - allocation.bytes

    def _publish(self, plan: Mapping[str, Code]) -> dict[str, Code]:
        """Write the artifact that a plan (path → code) leads to, in the place of any other; the plan again."""
        run = self.run
        total = self.tensors.bytes(plan)
        codes = self.tensors.stored_codes(plan)
        facts = {"recipe": run.settings.recipe, "coded tensors": f"{len(plan)} in {total:,} bytes"}
        with with_codes(self.evaluator.model, codes):
            card = model_card("Compressed agent", __doc__ or "", facts=facts)
            write_model(
                self.evaluator.model, self.evaluator.tokenizer, run.artifact.path, run.output, card=card
            )
        return dict(plan)

    def _publish_stages(self, stages: int) -> dict[str, Code]:
        """Publish what is left after these stages.

        The bytes and the retention after each code on the way there go into the report.
        """
        codes = after_each_preset(stages)
        plan = self._publish(dict.fromkeys(self.modules, codes[-1]))
        overhead = folder_size(self.run.output) - self.tensors.bytes(plan)
        points = self._curve([dict.fromkeys(self.modules, code) for code in codes], overhead)
        self.retained = points["series"].get("retention", [])
        self.run.extra["curves"] = {f"stages: {codes[-1]}": points}
        return plan

    def _recover(self, plan: dict[str, Code]) -> None:
        """Let norms, biases and gates make up for what the codes lost, and publish again.

        Kept where it helps on the search split, and reported on the select split.
        """
        run, settings = self.run, self.run.settings.recovery
        rows = -(-self.evaluator.batch // PARTS)
        training = self.evaluator.plain_reference(self._items("train", settings.items), rows)
        assert not isinstance(self.search.items, TextRows)  # settings see to it
        held_out = self.evaluator.reference(self.search.items)
        with self.evaluator.with_weights(self.tensors.decoded(plan, self.evaluator.dtype)):
            before = self.evaluator.nll(self.select.items)
            recovery = recover(
                self.evaluator,
                training,
                held_out,
                steps=settings.steps,
                lr=settings.lr,
                engine=run.settings.engine,
                progress=run.progress,
            )
            after = self.evaluator.nll(self.select.items)
        verdict = "kept" if recovery.kept else "taken back"
        run.progress.note(
            f"recovery: KL {recovery.before:.4f} → {recovery.after:.4f} on the search split, {verdict}"
        )
        self.recovery = {
            "recovery_kept": float(recovery.kept),
            "kl_coded": recovery.before,
            "kl_recovered": recovery.after,
        }
        claim = "what no code touches learns to make up for the codes"
        run.extra["controls"].append(
            comparison(claim, ("norms, biases and gates distilled", after), ("as they were", before))
        )
        if recovery.kept:
            self._publish(plan)

    def _compare(self, allocations: list[Allocation], plan: dict[str, Code]) -> None:
        """The curve of size against retention, and every codec alone, for the report."""
        run, settings = self.run, self.run.settings
        overhead = folder_size(run.output) - self.tensors.bytes(plan)
        points = evenly_spread(allocations, settings.curve)
        if points:
            plans = [allocation.presets for allocation in points]
            run.extra["curves"] = {"size against retention": self._curve(plans, overhead)}
        run.extra["controls"] = controls(
            settings.controls, plan, self.tensors, self.evaluator, self.select, run.progress
        )

    def _curve(self, plans: Sequence[Mapping[str, Code]], overhead: int) -> dict[str, Any]:
        """Retention at the sizes of the plans, measured on the select split."""
        return curve(
            plans,
            self.tensors,
            self.evaluator,
            self.select,
            self.run.progress,
            overhead=overhead,
            full=4 * self._parameters(),
        )

    def _parameters(self) -> int:
        """What the model computes with, coded weights counted as weights."""
        as_codes = [path for path, module in self.modules.items() if isinstance(module, Coded)]
        return self.evaluator.model.num_parameters() + sum(
            self.tensors.weight(path).size for path in as_codes
        )

    def _measure(self, plan: dict[str, Code]) -> None:
        """Score the artifact as it was written, and account for its bytes."""
        run = self.run
        agent = Agent.load(run.output, device=self.device) if (run.output / AGENT).is_file() else None
        model, tokenizer = (agent.model, agent.tokenizer) if agent else load(run.output, device=self.device)
        attach_decoded(model, self.tensors.stored_codes(plan), self.tensors.decoded(plan))
        parameters, size = self._parameters(), folder_size(run.output)
        after = Evaluator(model, tokenizer, self.evaluator.batch).loss(self.select.items)
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
            self.metrics["stage_degradation"] = worst_degradation(self.retained or [retained])
        if isinstance(self.select.items, TextRows):
            self.metrics |= text_metrics(self.select.items, self.select.before, after)
        run.extra["sizes"] = size_breakdown(self.tensors, plan, size)
        score(run, agent.answers if agent else model, tokenizer, model=agent.model if agent else model)
        if agent is None:  # an agent thinks where its architecture says so
            self.metrics |= score_thinking(run, model, tokenizer)
