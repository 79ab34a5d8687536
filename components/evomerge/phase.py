"""Phase 2: merge the variants evolutionarily.

In a pipeline the search is spread over processes that pass genomes and scores to each other, never weights:

    workers (round 0) → select → workers (round 1) → select → … → workers (last round) → the champion is merged

A worker is an island, and the first measures generation 0 by itself; or it measures a shard of the one population's next
generation (`evomerge.fan_out`). The last step selects from the last round's results itself. By hand, given models alone,
one process does all of it and ends with the same champion.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from components.shared.runtime.artifact.artifact import Artifact
from components.shared.runtime.config.settings import FILE
from components.shared.runtime.errors import ConfigError, InputError
from components.shared.runtime.phase import Phase, Run
from components.shared.runtime.store.local_copy import download

from .component import PHASE
from .connectivity import connections, warning
from .evaluation.compatibility import check
from .fan_out import FanOut, SearchPlan
from .search.archive import Record, lineage
from .search.population import LINEAGE, Population, SearchIdentity
from .search.worker import Search
from .settings import Settings, check_fan_out

__all__ = ["EvoMerge"]

if TYPE_CHECKING:  # a selection merges nothing, and need not wait for the import of transformers
    from components.shared.tasks.item import Split

    from .evaluation.merge_evaluator import MergeEvaluator

FITNESS_SPLITS: tuple[Split, ...] = ("search", "select", "report")
FRONT = 24  # members of the Pareto front that the report shows


class EvoMerge(Phase[Settings], spec=PHASE):
    """Merges two or more variants of one model into the best that an evolutionary search over merge recipes finds.

    By hand: --input A --input B … --output D. In a pipeline: `--step worker`, `--step select`, and last without a step,
    with the results of the last round.
    """

    def __init__(self, run: Run[Settings]) -> None:
        super().__init__(run)
        self.models = run.inputs.get("input_models") or run.inputs.get("input_model", [])
        self.metrics: dict[str, float] = {}
        self.plan = self._plan()
        self.fan_out = FanOut(self.plan, lambda figures, step: run.tracker.metrics(figures, step=step))

    def validate_input(self) -> None:
        """Models that can be merged; results and a state of this very search."""
        check(self.models)
        self._check_fan_out()
        self._check_files()
        if self.run.step == "select" and not self.run.inputs.get("results"):
            raise InputError(
                "a selection has no results to select from",
                where="input results",
                fix="give the outputs of the workers of one round",
            )
        if self.run.inputs.get("state") and self.run.inputs.get("results"):
            raise InputError(
                "there is a state beside the results that are to become one",
                where="inputs state and results",
                fix="give the results of the last round, or the state of the last selection",
            )
        for name in ("state", "results"):
            for artifact in self.run.inputs.get(name, []):
                self._read(artifact, name)

    def execute(self) -> None:
        """The step that this process is."""
        if self.run.step == "worker":
            self.work()
        elif self.run.step == "select":
            self.select()
        else:
            self.merge()

    def get_metrics(self) -> dict[str, float]:
        """What this step measured."""
        return self.metrics

    def work(self) -> None:
        """One island for one round, or one shard of a generation."""
        evaluator = self._evaluator()
        self._leave(self.fan_out.work(self._search(evaluator), evaluator, self._state()))

    def select(self) -> None:
        """The barrier of a round: archives are united; champions migrate, or it is decided who survives."""
        self._leave(self.fan_out.select(self._results()))

    def merge(self) -> None:
        """Search first, unless results or a state say that this is done; then choose, compare and publish the champion."""
        from . import champion

        results, population = self._results(), self._state()
        if results:
            population = self.fan_out.select(results)
        evaluator = self._evaluator()
        if population is None:
            population = self.fan_out.whole(self._search(evaluator), evaluator)
        settings, progress, archive = self.run.settings, self.run.progress, population.archive
        candidates = champion.finalists(archive, settings.finalists)
        progress.start("select split", len(candidates))
        best, selected = champion.choose(candidates, evaluator, settings.select_items, progress.step)
        progress.start("report split", 3)
        items = self.run.config.evaluation.items
        controls, reported = champion.compare(best, archive, evaluator, items, progress.step)
        progress.done()
        self.metrics = {
            "fitness": best.fitness or 0.0,
            "fitness_generation_zero": champion.generation_zero(archive)[0].fitness or 0.0,
            "fitness_select": selected.fitness or 0.0,
            **reported,
            "evaluations": len(archive),
        }
        self._explain(population, best, candidates, evaluator)
        self.run.extra["controls"] = controls
        self._publish(best, population, evaluator)

    def _explain(
        self, population: Population, best: Record, candidates: list[Record], evaluator: MergeEvaluator
    ) -> None:
        """What the report shows of the search."""
        from .card import shares
        from .findings import curves, generations

        history = generations(population)
        connected = connections(population.archive, evaluator.space)
        names = evaluator.parents.names
        warnings = [warning(connection, names) for connection in connected if not connection.connected]
        for text in warnings:
            self.run.progress.note(f"warning: {text}")
        self.run.extra |= {
            "population": history,
            "curves": curves(history),
            "champion": {**best.summary(), "genes": best.genome.to_json()},
            "shares": shares(best.genome, evaluator.space, names, evaluator.merger.layer_groups),
            "finalists": [record.summary() for record in candidates],
            "pareto": [record.summary() for record in population.archive.pareto()[:FRONT]],
            "connectivity": [connection.to_json() for connection in connected],
            "warnings": [*evaluator.parents.notes, *warnings],
        }

    def _publish(self, best: Record, population: Population, evaluator: MergeEvaluator) -> None:
        from components.shared.evaluation.report_split import score
        from components.shared.models.card import model_card
        from components.shared.models.loading import save

        from .card import rows

        model, tokenizer = evaluator.model(best.genome), evaluator.parents.tokenizer
        facts = {
            "parents": ", ".join(evaluator.parents.names),
            "parameters": f"{model.num_parameters():,}",
            **rows(best.genome, evaluator.space, evaluator.parents.names, evaluator.merger.layer_groups),
        }
        summary = "The champion of an evolutionary search over merges of its parents."
        save(model, tokenizer, self.run.output, card=model_card("EvoMerge", summary, facts=facts))
        (self.run.output / LINEAGE).write_text(lineage(population.archive))
        score(self.run, model, tokenizer)

    def _evaluator(self) -> MergeEvaluator:
        from .evaluation.merge_evaluator import MergeEvaluator

        settings = self.run.settings
        evaluator = MergeEvaluator(
            self.models,
            base=Path(download(settings.base, self.run.work / "base")) if settings.base else None,
            methods=settings.methods,
            layer_groups=settings.layer_groups,
            repeats=settings.repeats,
            extra_layers=settings.extra_layers,
            suites=settings.suites,
            items=settings.items,
            fitness=settings.fitness,
            calibration_items=settings.calibration_items,
            seed=self.run.seed,
            batch=self.run.config.evaluation.batch,
            work=self.run.work,
        )
        for text in evaluator.parents.notes:
            self.run.progress.note(text)
        return evaluator

    def _search(self, evaluator: MergeEvaluator) -> Search:
        scorer = evaluator.search_scorer
        return Search(
            evaluator.space,
            self._identity(),
            lambda genome, rival: evaluator.measure(genome, scorer, rival),
            random=self.run.numpy,
            checkpoints=self.run.checkpoints,
            progress=self.run.progress,
        )

    def _plan(self) -> SearchPlan:
        """How large the search is, as the settings say, and where in it this task stands, as the parameters say."""
        settings = self.run.settings
        return SearchPlan(
            shares_evaluations=settings.fan_out == "evaluations",
            rounds=self._number("rounds", settings.rounds),
            round=self._number("round", 0),
            workers=self._number("workers", 0),
            worker=self._number("index", 0),
            islands=settings.islands,
            generations=settings.generations,
            population=settings.population,
            strategies=settings.strategies,
            collapse=settings.collapse,
            patience=settings.patience,
        )

    def _number(self, name: str, default: int) -> int:
        value = self.run.parameters.get(name)
        return default if value is None else int(value)

    def _check_fan_out(self) -> None:
        """Refuse numbers of rounds, generations and workers that do not go together."""
        run, plan, settings = self.run, self.plan, self.run.settings
        if run.step == "worker":
            if plan.shares_evaluations and plan.workers < 1:
                raise ConfigError(
                    "a worker does not know how many share the evaluations",
                    where="parameter workers",
                    fix="give the number of workers of a round: --set workers=2",
                )
            if plan.shares_evaluations and not 0 <= plan.worker < plan.workers:
                raise ConfigError(
                    f"worker {plan.worker} is none of {plan.workers}",
                    where="parameter index",
                    fix=f"workers are counted from 0: give 0 to {plan.workers - 1}",
                )
            check_fan_out(settings, plan.rounds, plan.workers or settings.islands)
        elif not run.step and not run.inputs.get("results") and not run.inputs.get("state"):
            check_fan_out(settings, settings.rounds, 1)

    def _check_files(self) -> None:
        """Refuse a file of questions that has none to search by, to choose by or to report."""
        files = [suite for suite in self.run.settings.suites if suite.startswith(FILE)]
        if files and self.run.step != "select":
            from components.shared.evaluation.suites import suite_items

            for suite in files:
                for split in FITNESS_SPLITS:
                    suite_items(suite, split=split, items=2, seed=0)

    def _identity(self) -> SearchIdentity:
        settings = self.run.settings
        digests = tuple(model.digest for model in self.models)
        return SearchIdentity(
            models=digests,
            seed=self.run.seed,
            suites=settings.suites,
            items=settings.items,
            fitness=settings.fitness,
            calibration=settings.calibration_items,
            fan_out=settings.fan_out,
        )

    def _results(self) -> list[Population]:
        return [self._read(artifact, "results") for artifact in self.run.inputs.get("results", [])]

    def _state(self) -> Population | None:
        states = self.run.inputs.get("state", [])
        return self._read(states[0], "state") if states else None

    def _read(self, artifact: Artifact, name: str) -> Population:
        population = Population.read(artifact.path)
        if differences := population.identity.differences(self._identity()):
            raise InputError(
                f"the {name} belongs to another search",
                where=str(artifact.path),
                why=f"it differs in {', '.join(differences)}",
                fix="give what was made from these models, in this order, with these settings",
            )
        return population

    def _leave(self, population: Population) -> None:
        """A population as this step's output."""
        self.run.kind = "population"
        population.write(self.run.output)
        self.metrics = {
            "evaluations": len(population.archive),
            "failures": sum(record.fitness is None for record in population.archive),
        }
        if len(population.archive):  # a shard may be empty
            best = population.archive.best()
            self.run.extra["best"] = best.summary()
            self.metrics["fitness"] = best.fitness or 0.0
