"""How the search is spread over workers: islands, or the evaluations of one population (`evomerge.fan_out`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from components.shared.runtime.errors import ConfigError
from components.shared.runtime.phase import Run

from .search.population import Population, Setting, join
from .search.sharing import Breeding, gather, rivals, share
from .search.worker import Search
from .settings import Settings, check_fan_out

if TYPE_CHECKING:
    from .evaluation.trial import Trial


class FanOut:
    """One worker's part, the selection after a round, and the whole search in one process; as parameters of the pipeline
    say, or where it has none (or 0), the settings.
    """

    def __init__(self, run: Run[Settings], setting: Setting) -> None:
        self.run, self.settings, self.setting = run, run.settings, setting
        self.shares = self.settings.fan_out == "evaluations"

    def check(self) -> None:
        """Refuse numbers of rounds, generations and workers that do not go together. Raises ConfigError."""
        inputs = self.run.inputs
        if self.run.step == "worker":
            self._check_worker()
        elif not self.run.step and not inputs.get("results") and not inputs.get("state"):
            check_fan_out(self.settings, self.settings.rounds, 1)

    def _check_worker(self) -> None:
        workers, index = self._number("workers", 0), self._number("index", 0)
        if self.shares and workers < 1:
            raise ConfigError(
                "a worker does not know how many share the evaluations",
                where="parameter workers",
                fix="give the number of workers of a round: --set workers=2",
            )
        if self.shares and not 0 <= index < workers:
            raise ConfigError(
                f"worker {index} is none of {workers}",
                where="parameter index",
                fix=f"workers are counted from 0: give 0 to {workers - 1}",
            )
        rounds = self._number("rounds", self.settings.rounds)
        check_fan_out(self.settings, rounds, workers or self.settings.islands)

    def work(self, trial: Trial, before: Population | None) -> Population:
        """What one worker adds in one round."""
        search, worker, number = self._search(trial), self._number("index", 0), self._number("round", 0)
        if self.shares:
            return self._share(search, trial, before, worker, number, self._number("workers", 1))
        rounds = self._number("rounds", self.settings.rounds)
        return self._live(search, before or search.start(), worker, number, rounds)

    def select(self, results: list[Population]) -> Population:
        """The results of a round put together."""
        if not self.shares:
            return join(results)
        after = gather(results)
        if len(after.history) > len(results[0].history):
            self._track("population", after.history[-1])
        return after

    def whole(self, trial: Trial) -> Population:
        """All workers' part of all rounds."""
        search, rounds = self._search(trial), self.settings.rounds
        population = None if self.shares else search.start()
        for number in range(rounds):
            if population is None or self.shares:
                results = [self._share(search, trial, population, 0, number, workers=1)]
            else:
                islands = range(self.settings.islands)
                results = [self._live(search, population, island, number, rounds) for island in islands]
            population = self.select(results)
        assert population is not None  # there is at least one round
        return population

    def _live(self, search: Search, before: Population, worker: int, number: int, rounds: int) -> Population:
        """An island's part of the generations."""
        settings, generations = self.settings, self.settings.generations
        after = search.live(
            before,
            worker=worker,
            round=number,
            generations=generations // rounds + (number % rounds < generations % rounds),
            size=settings.population,
            breeder=settings.breeders[worker % len(settings.breeders)],
            collapse=settings.collapse,
            patience=settings.patience,
        )
        for entry in after.history:
            if (entry["worker"], entry["round"]) == (worker, number):
                self._track(f"island {worker}", entry)
        return after

    def _share(
        self,
        search: Search,
        trial: Trial,
        before: Population | None,
        index: int,
        number: int,
        workers: int,
    ) -> Population:
        """A shard of a generation. What the elites answer travels with the genomes, so that nobody asks them again."""
        settings, judge = self.settings, trial.search_judge
        if before is not None:
            for name, kept in before.answers.items():
                trial.remember(before.archive[name].genome, kept)
        how = Breeding(
            size=settings.population,
            breeder=settings.breeders[0],
            collapse=settings.collapse,
            patience=settings.patience,
        )
        after = share(search, before, how, round=number, index=index, workers=workers)
        after.answers = rivals(before, after, lambda record: trial.answers(record.genome, judge).to_json())
        return after

    def _search(self, trial: Trial) -> Search:
        judge = trial.search_judge
        return Search(
            trial.space,
            self.setting,
            lambda genome, rival: trial.measure(genome, judge, rival),
            random=self.run.numpy,
            checkpoints=self.run.checkpoints,
            progress=self.run.progress,
        )

    def _track(self, name: str, entry: dict[str, float]) -> None:
        """The figures of a generation, for the curves."""
        if entry["best"] is not None:
            figures = {f"{name}/{key}": entry[key] for key in ("best", "mean", "diversity")}
            self.run.tracker.metrics(figures, step=int(entry["generation"]))

    def _number(self, name: str, default: int) -> int:
        """A whole number among the pipeline's parameters."""
        value = self.run.parameters.get(name)
        return default if value is None else int(value)
