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
from components.shared.runtime.errors import InputError
from components.shared.runtime.phase import Phase, Run
from components.shared.runtime.store.uri import localise

from .compatibility import check
from .component import PHASE
from .connectivity import connections, warning
from .fan_out import FanOut
from .search.archive import Record, lineage
from .search.population import LINEAGE, Population, Setting
from .settings import Settings

if TYPE_CHECKING:  # a selection merges nothing, and need not wait for the import of transformers
    from .evaluation.trial import Trial

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
        self.fan_out = FanOut(run, self._setting())

    def validate_input(self) -> None:
        """Models that can be merged; results and a state of this very search."""
        check(self.models)
        self.fan_out.check()
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
        if self.run.step == "worker":
            self.work()
        elif self.run.step == "select":
            self.select()
        else:
            self.merge()

    def get_metrics(self) -> dict[str, float]:
        return self.metrics

    def work(self) -> None:
        """One island for one round, or one shard of a generation."""
        self._leave(self.fan_out.work(self._trial(), self._state()))

    def select(self) -> None:
        """The barrier of a round: archives are united; champions migrate, or it is decided who survives."""
        self._leave(self.fan_out.select(self._results()))

    def merge(self) -> None:
        """Search first, unless results or a state say that this is done; then choose, compare and publish the champion."""
        from . import champion

        results, population = self._results(), self._state()
        if results:
            population = self.fan_out.select(results)
        trial = self._trial()
        if population is None:
            population = self.fan_out.whole(trial)
        settings, progress, archive = self.run.settings, self.run.progress, population.archive
        candidates = champion.finalists(archive, settings.finalists)
        progress.start("select split", len(candidates))
        best, selected = champion.choose(candidates, trial, settings.select_items, progress.step)
        progress.start("report split", 3)
        items = self.run.config.evaluation.items
        controls = champion.compare(best, archive, trial, items, progress.step)
        progress.done()
        self.metrics = {
            "fitness": best.fitness or 0.0,
            "fitness_generation_zero": champion.generation_zero(archive)[0].fitness or 0.0,
            "fitness_select": selected.fitness or 0.0,
            "evaluations": len(archive),
        }
        self._explain(population, best, candidates, trial)
        self.run.extra["controls"] = controls
        self._publish(best, population, trial)

    def _explain(self, population: Population, best: Record, candidates: list[Record], trial: Trial) -> None:
        """What the report shows of the search."""
        from .findings import curves, generations
        from .recipe import shares

        found = generations(population)
        connected = connections(population.archive, trial.space)
        names = trial.parents.names
        warnings = [warning(connection, names) for connection in connected if not connection.connected]
        for text in warnings:
            self.run.progress.note(f"warning: {text}")
        self.run.extra |= {
            "population": found,
            "curves": curves(found),
            "champion": {**best.summary(), "genes": best.genome.to_json()},
            "shares": shares(best.genome, trial.space, names, trial.bench.merger.layer_groups),
            "finalists": [record.summary() for record in candidates],
            "pareto": [record.summary() for record in population.archive.pareto()[:FRONT]],
            "connectivity": [connection.to_json() for connection in connected],
            "warnings": [*trial.parents.notes, *warnings],
        }

    def _publish(self, best: Record, population: Population, trial: Trial) -> None:
        from components.shared.evaluation.report_split import score
        from components.shared.models.card import model_card
        from components.shared.models.loading import save

        from .recipe import rows

        model, tokenizer = trial.model(best.genome), trial.parents.tokenizer
        facts = {
            "parents": ", ".join(trial.parents.names),
            "parameters": f"{model.num_parameters():,}",
            **rows(best.genome, trial.space, trial.parents.names, trial.bench.merger.layer_groups),
        }
        summary = "The champion of an evolutionary search over merges of its parents."
        save(model, tokenizer, self.run.output, card=model_card("EvoMerge", summary, facts=facts))
        (self.run.output / LINEAGE).write_text(lineage(population.archive))
        score(self.run, model, tokenizer)

    def _trial(self) -> Trial:
        from .evaluation.trial import Trial

        settings = self.run.settings
        base = Path(localise(settings.base, self.run.work / "base")) if settings.base else None
        batch = self.run.config.evaluation.batch
        trial = Trial(self.models, settings, base=base, seed=self.run.seed, batch=batch)
        for text in trial.parents.notes:
            self.run.progress.note(text)
        return trial

    def _setting(self) -> Setting:
        settings = self.run.settings
        digests = tuple(model.digest for model in self.models)
        return Setting(
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
        if differences := population.setting.differences(self._setting()):
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
