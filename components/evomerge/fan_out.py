"""How the search is spread over workers: islands, or the evaluations of one population (`evomerge.fan_out`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .search.evolution import EvolutionParameters
from .search.population import Population, join_islands
from .search.shards import join_shards, measure_shard, rival_answers
from .search.worker import Search

if TYPE_CHECKING:
    from .evaluation.merge_evaluator import MergeEvaluator


@dataclass(frozen=True)
class SearchPlan:
    """How large a search is, and which part of it this process does.

    :param shares_evaluations: workers share the evaluations of one population; otherwise each is an island.
    :param rounds: barriers.
    :param round: the number of this one.
    :param workers: of a round, where evaluations are shared.
    :param worker: the number of this one.
    :param islands: how many there are where one process does everything.
    :param generations: of every island, over all rounds.
    :param population: members of an island, or of the one population.
    :param strategies: dealt out to the islands in turn.
    :param collapse: diversity below which all but the champion are drawn anew.
    :param patience: generations without a better genome after which an island stops.
    """

    shares_evaluations: bool
    rounds: int
    round: int
    workers: int
    worker: int
    islands: int
    generations: int
    population: int
    strategies: tuple[str, ...]
    collapse: float
    patience: int

    def generations_of(self, round: int) -> int:
        """Of an island in one round; the first rounds take the remainder."""
        return self.generations // self.rounds + (round % self.rounds < self.generations % self.rounds)

    def evolution(self, island: int) -> EvolutionParameters:
        """How an island evolves."""
        strategy = self.strategies[island % len(self.strategies)]
        return EvolutionParameters(self.population, strategy, self.collapse, self.patience)


class FanOut:
    """One worker's part, the selection after a round, and the whole search in one process.

    :param plan: how large the search is, and which part of it this is.
    :param track: logs figures at a generation, under their names.
    """

    def __init__(self, plan: SearchPlan, track: Callable[[Mapping[str, float], int], None]) -> None:
        self.plan, self.track = plan, track

    def work(self, search: Search, evaluator: MergeEvaluator, before: Population | None) -> Population:
        """What one worker adds in one round.

        :param before: what the selection of the round before left.
        """
        plan = self.plan
        if plan.shares_evaluations:
            return self._shard(search, evaluator, before, plan.worker, plan.round, plan.workers)
        return self._island(search, before or search.start(), plan.worker, plan.round)

    def select(self, results: list[Population]) -> Population:
        """The results of a round put together."""
        if not self.plan.shares_evaluations:
            return join_islands(results)
        after = join_shards(results)
        if len(after.history) > len(results[0].history):
            self._track("population", after.history[-1])
        return after

    def whole(self, search: Search, evaluator: MergeEvaluator) -> Population:
        """All workers' part of all rounds."""
        plan = self.plan
        population = None if plan.shares_evaluations else search.start()
        for round in range(plan.rounds):
            if population is None or plan.shares_evaluations:
                results = [self._shard(search, evaluator, population, 0, round, workers=1)]
            else:
                islands = range(plan.islands)
                results = [self._island(search, population, island, round) for island in islands]
            population = self.select(results)
        assert population is not None  # there is at least one round
        return population

    def _island(self, search: Search, before: Population, worker: int, round: int) -> Population:
        """An island's part of the generations."""
        after = search.evolve_island(
            before,
            worker=worker,
            round=round,
            generations=self.plan.generations_of(round),
            parameters=self.plan.evolution(worker),
        )
        for entry in after.history:
            if (entry["worker"], entry["round"]) == (worker, round):
                self._track(f"island {worker}", entry)
        return after

    def _shard(
        self,
        search: Search,
        evaluator: MergeEvaluator,
        before: Population | None,
        index: int,
        round: int,
        workers: int,
    ) -> Population:
        """A shard of a generation. What the elites answer travels with the genomes, so that nobody asks them again."""
        scorer = evaluator.search_scorer
        if before is not None:
            for name, answers in before.answers.items():
                evaluator.remember(before.archive[name].genome, answers)
        parameters = self.plan.evolution(0)
        after = measure_shard(search, before, parameters, round=round, index=index, workers=workers)
        after.answers = rival_answers(
            before, after, lambda record: evaluator.answers(record.genome, scorer).to_json()
        )
        return after

    def _track(self, name: str, entry: Mapping[str, float]) -> None:
        """The figures of a generation, for the curves."""
        if entry["best"] is not None:
            figures = {f"{name}/{key}": entry[key] for key in ("best", "mean", "diversity")}
            self.track(figures, int(entry["generation"]))
