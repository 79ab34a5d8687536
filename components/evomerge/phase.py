"""Phase 2: merge the variants evolutionarily.

In a pipeline the search is spread over processes that pass genomes and scores to each other, never weights:

    workers (an island each, round 0) → select → workers (round 1) → select → … → the champion is merged

A worker without a state measures generation 0 first. By hand, given models alone, one process does all of it
and ends with the same champion.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from components.shared.evaluation.suites import evaluate
from components.shared.models.card import model_card
from components.shared.models.loading import save
from components.shared.runtime.artifact import Artifact
from components.shared.runtime.errors import InputError, PhaseFailed
from components.shared.runtime.phase import Phase, Run
from components.shared.runtime.store import localise

from .archive import Archive, Measurement, Record, lineage, ranked
from .connectivity import connections, warning
from .findings import comparison, curves, generations, member
from .genome import Genome
from .judge import Judge
from .merging import Merger
from .methods import METHODS
from .parents import Parents, check, load_parents
from .population import LINEAGE, Population, Setting, join
from .search import Search
from .settings import Settings
from .space import Space
from .workbench import Workbench


class EvoMerge(Phase):
    """Merges two or more variants of one model into the best that an evolutionary search over merge recipes
    finds.

    By hand: --input A --input B … --output D. In a pipeline: `--step worker`, `--step select`, and last
    without a step, with the state of the last selection.
    """

    name = "evomerge"
    Settings = Settings
    steps = ("", "worker", "select")

    def __init__(self, run: Run) -> None:
        super().__init__(run)
        self.models = run.inputs.get("models") or run.inputs.get("model", [])
        self.metrics: dict[str, float] = {}
        self.device = "cuda" if torch.cuda.is_available() else "cpu"

    def validate_input(self) -> None:
        """Models that can be merged; results and a state of this very search."""
        check(self.models)
        if self.run.step == "select" and not self.run.inputs.get("results"):
            raise InputError(
                "a selection has no results to select from",
                where="input results",
                fix="give the outputs of the workers of one round",
            )
        for name in ("state", "results"):
            for artifact in self.run.inputs.get(name, []):
                self._read(artifact, name)

    def execute(self) -> None:
        if self.run.step == "select":
            self.select()
        elif self.run.step == "worker":
            self.work()
        else:
            self.merge()

    def get_metrics(self) -> dict[str, float]:
        return self.metrics

    def work(self) -> None:
        """One island for one round."""
        search = self._search(self._load())
        before = self._state()
        if before is not None:
            search.know(before)
        worker, number = int(self.run.parameters.get("index", 0)), int(self.run.parameters.get("round", 0))
        rounds = int(self.run.parameters.get("rounds", self.run.settings.rounds))
        self._leave(self._island(search, before or search.start(), worker, number, rounds))

    def select(self) -> None:
        """The barrier of a round: archives are united, champions migrate."""
        self._leave(join([self._read(artifact, "results") for artifact in self.run.inputs["results"]]))

    def merge(self) -> None:
        """Search first, unless a state says that this is done; then merge the champion and compare it."""
        parents = self._load()
        population = self._state()
        if population is None:
            population = self._whole_search(self._search(parents))
        bench = self._bench(parents)
        champion = self._champion(population, parents, bench)
        self._report(population, champion, parents, bench)
        self._publish(population, champion, parents, bench)

    def _whole_search(self, search: Search) -> Population:
        settings = self.run.settings
        population = search.start()
        for number in range(settings.rounds):
            islands = [
                self._island(search, population, worker, number, settings.rounds)
                for worker in range(settings.islands)
            ]
            population = join(islands)
        return population

    def _island(
        self, search: Search, population: Population, worker: int, number: int, rounds: int
    ) -> Population:
        settings, parameters = self.run.settings, self.run.parameters
        # 0 as a parameter means: what the settings say.
        total = int(parameters.get("generations") or settings.generations)
        return search.live(
            population,
            worker=worker,
            round=number,
            generations=total // rounds + (number % rounds < total % rounds),
            size=int(parameters.get("population") or settings.population),
            breeder=settings.breeders[worker % len(settings.breeders)],
            collapse=settings.collapse,
        )

    def _champion(self, population: Population, parents: Parents, bench: Workbench) -> Record:
        """Of the best genomes of the search the one that is best on the select split.

        Only genomes that are no worse than all of generation 0 on the search split are asked: so the champion
        is not either. The best of hundreds on the search split is partly the luckiest; the select split has
        seen none of them.
        """
        settings = self.run.settings
        zero = ranked(record for record in population.archive if record.birth.generation == 0)
        if zero[0].fitness is None:
            raise PhaseFailed(
                "no merge could be measured", where="generation 0", why=zero[0].measurement.error
            )
        floor = zero[0].measurement.rank
        finalists = [record for record in population.archive.ranked() if record.measurement.rank >= floor]
        finalists = finalists[: settings.finalists]
        judge = self._judge(parents, "select", settings.select_items, settings.suites)
        self.run.progress.start("finalists", len(finalists))
        measured: list[tuple[Measurement, Record]] = []
        for record in finalists:
            measured.append((judge.measure(bench.model(record.genome)), record))
            self.run.progress.step(fitness=measured[-1][0].fitness or 0.0)
        self.run.extra["finalists"] = [
            {**member(record), "select_fitness": measurement.fitness} for measurement, record in measured
        ]
        best, champion = max(measured, key=lambda pair: pair[0].rank)
        self.metrics |= {
            "fitness": champion.fitness or 0.0,
            "fitness_generation_zero": zero[0].fitness,
            "fitness_select": best.fitness or 0.0,
        }
        return champion

    def _report(self, population: Population, champion: Record, parents: Parents, bench: Workbench) -> None:
        """The report split, scored once: the champion beside the best parent and the best static merge."""
        evaluation = self.run.config.evaluation
        found = generations(population)
        self.run.extra["population"] = found
        self.run.extra["curves"] = curves(found)
        self.run.extra["champion"] = {**member(champion), "genes": champion.genome.to_json()}
        self._connect(population.archive, parents)
        judge = self._judge(parents, "report", evaluation.items, self.run.settings.suites)
        zero = ranked(record for record in population.archive if record.birth.generation == 0)
        controls = {
            "best parent": [record for record in zero if record.birth.origin.startswith("parent")],
            "best static merge": [record for record in zero if record.birth.origin.startswith("static")],
        }
        self.run.progress.start("report split", 1 + len(controls))
        ours = judge.answers(bench.model(champion.genome))
        self.run.progress.step()
        self.run.extra["controls"] = []
        for name, records in controls.items():
            control = next((record for record in records if record.fitness is not None), None)
            if control is not None:
                theirs = judge.answers(bench.model(control.genome))
                label = f"{name}: {self._label(control, parents)}"
                claim = f"evolution finds a better model than the {name}"
                entry = comparison(claim, "champion", label, ours, theirs, seed=self.run.seed)
                self.run.extra["controls"].append(entry)
                self.metrics[f"gain_over_{name.replace(' ', '_')}"] = entry["difference"]
            self.run.progress.step()

    def _label(self, record: Record, parents: Parents) -> str:
        origin = record.birth.origin
        return parents.names[int(origin.split()[1])] if origin.startswith("parent") else record.genome.method

    def _connect(self, archive: Archive, parents: Parents) -> None:
        found = connections(archive, self._space(parents))
        self.run.extra["connectivity"] = [connection.to_json() for connection in found]
        warnings = [warning(one, parents.names) for one in found if not one.connected]
        for text in warnings:
            self.run.progress.note(f"warning: {text}")
        self.run.extra["warnings"] = [*parents.notes, *warnings]

    def _publish(self, population: Population, champion: Record, parents: Parents, bench: Workbench) -> None:
        model = bench.model(champion.genome)
        facts = {
            "parents": ", ".join(parents.names),
            "method": champion.genome.method,
            "genome": champion.hash,
            "parameters": f"{model.num_parameters():,}",
        }
        card = model_card(
            "EvoMerge", "The champion of an evolutionary search over merges of its parents.", facts=facts
        )
        save(model, parents.tokenizer, self.run.output, card=card)
        (self.run.output / LINEAGE).write_text(lineage(population.archive))
        evaluation = self.run.config.evaluation
        self.run.scores = dict(
            evaluate(
                model,
                parents.tokenizer,
                split="report",
                items=evaluation.items,
                seed=self.run.seed,
                batch=evaluation.batch,
            )
        )
        self.metrics["evaluations"] = len(population.archive)

    def _load(self) -> Parents:
        settings = self.run.settings
        base = Path(localise(settings.base, self.run.work / "base")) if settings.base else None
        parents = load_parents(self.models, base=base, device=self.device)
        for text in parents.notes:
            self.run.progress.note(text)
        return parents

    def _space(self, parents: Parents) -> Space:
        settings, models = self.run.settings, parents.models
        allowed = [
            name
            for name in settings.methods
            if (models.base is not None or name not in METHODS or not METHODS[name].needs_base)
            and (models.grams is not None or name not in METHODS or not METHODS[name].needs_grams)
            and (models.stack.count or name in METHODS)
        ]
        if not allowed:
            raise InputError(
                "no merge method is left",
                where="evomerge.methods",
                why="; ".join(parents.notes),
                fix="allow linear, or give the parents a base",
            )
        groups = min(settings.layer_groups, models.stack.count)
        return Space(
            parents=len(models.parents),
            groups=groups + bool(models.outer()),
            methods=tuple(allowed),
            has_base=models.base is not None,
            layers=models.stack.count,
            repeats=settings.repeats,
            deepest=models.stack.count + settings.extra_layers,
        )

    def _bench(self, parents: Parents) -> Workbench:
        space = self._space(parents)
        groups = min(self.run.settings.layer_groups, parents.models.stack.count)
        merger = Merger(parents.models, space, layer_groups=groups, seed=self.run.seed)
        return Workbench(parents.template, merger)

    def _judge(self, parents: Parents, split: Any, items: int, suites: Sequence[str]) -> Judge:
        return Judge(
            parents.tokenizer,
            suites,
            split=split,
            items=items,
            seed=self.run.seed,
            batch=self.run.config.evaluation.batch,
            fitness=self.run.settings.fitness,
            device=self.device,
        )

    def _search(self, parents: Parents) -> Search:
        settings = self.run.settings
        bench = self._bench(parents)
        judge = self._judge(parents, "search", settings.items, settings.suites)

        def measure(genome: Genome) -> Measurement:
            return judge.measure(bench.model(genome))

        return Search(
            self._space(parents),
            self._setting(),
            measure,
            random=self.run.numpy,
            checkpoints=self.run.checkpoints,
            progress=self.run.progress,
        )

    def _setting(self) -> Setting:
        settings = self.run.settings
        return Setting(
            tuple(model.digest for model in self.models),
            self.run.seed,
            settings.suites,
            settings.items,
            settings.fitness,
        )

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
        best = population.archive.best()
        self.run.extra["best"] = member(best)
        self.metrics |= {
            "fitness": best.fitness or 0.0,
            "evaluations": len(population.archive),
            "failures": sum(record.fitness is None for record in population.archive),
        }
