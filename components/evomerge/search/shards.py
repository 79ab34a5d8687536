"""One population whose evaluations are shared out over workers: `evomerge.fan_out=evaluations`.

A round is one generation. Each worker makes the very same children, since they follow from the archive, the seed and the
number of the generation, and measures a run of them, its shard; `join_shards` puts the shards together and decides who
survives. So a lost worker costs its shard and nothing else, and the population does not depend on how many workers
there are.

Before the first children can be made from what is best in generation 0, all of it has to be measured. That would be a
barrier, one more round of pods, for the cheapest of all generations. Instead the first children are made blindly, as
mutants of generation 0 whatever it is worth, and the workers of the first round share out both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from components.shared.runtime.errors import InputError

from .archive import Archive, Provenance, Record, ranked
from .evolution import Child, Evolution, EvolutionParameters, Offspring, elites_of, survivors
from .generation_zero import generation_zero
from .history import entry, since_best
from .population import Population, Shard, require_one_search
from .variation import mutate
from .worker import Search

WORKER = 0  # all of the population is on one island, whoever measures it
STREAM = "population"  # the name with which the names of its random streams begin


def measure_shard(
    search: Search,
    before: Population | None,
    parameters: EvolutionParameters,
    *,
    round: int,
    index: int,
    workers: int,
) -> Population:
    """What worker `index` of `workers` adds to a population: the records of its shard. After a plateau there are none.

    :param before: what the selection of the round before left; None in round 0.
    :param parameters: how the population evolves.
    :param round: number of the round, which is one generation.
    :raises InputError: `before` is not what this search has come to before `round`.
    """
    before = before or Population(search.identity, Archive())
    shard = Shard(index, workers, round, parameters.size, before.islands.get(WORKER, []), [])
    archive = Archive(before.archive)
    if since_best(before.history, WORKER) >= parameters.patience:
        search.progress.note(f"a plateau, nothing better for {parameters.patience} generations")
    else:
        if round != before.generation:
            raise InputError(
                f"the state has lived {before.generation} generations, and this is round {round}",
                where="input state",
                fix="give what the selection of the round before left; none in round 0",
            )
        zero = _generation_zero(search, parameters.size)
        if round:
            offspring = _replay(search, before, parameters, zero).ask(_rng(search, round + 1))
            candidates = []
        else:
            offspring = _blind(search, parameters.size, zero)
            candidates = [(child, 0) for child in zero]
            shard = replace(shard, members=_hashes(zero))
        candidates += [(child, round + 1) for child in offspring.children]
        _measure(search, archive, candidates, offspring, shard)
        shard = replace(shard, children=_hashes(offspring.children), restarted=offspring.restarted)
    return replace(before, archive=archive, shard=shard)


def join_shards(results: Sequence[Population]) -> Population:
    """The population after a generation, out of the shards of all workers.

    :param results: one a worker, in any order.
    :raises InputError: a shard is missing, there twice, or of another search or round.
    """
    require_one_search(results)
    whole = [(result.shard, result) for result in results if result.shard is not None]
    whole.sort(key=lambda pair: pair[0].index)
    _check([shard for shard, _ in whole], len(results))
    shard, result = whole[0]
    if not shard.children:
        return replace(result, shard=None)
    archive = Archive(record for _, part in whole for record in part.archive)
    if lost := [member for member in (*shard.members, *shard.children) if member not in archive]:
        raise InputError(
            f"the results lack {len(lost)} genomes of their generation",
            where="input results",
            why=f"such as {lost[0]}",
            fix="run the workers of this round again",
        )
    members = ranked(archive[member] for member in shard.members)
    kept = members[: 1 if shard.restarted else shard.size]
    after = survivors(kept, [archive[child] for child in shard.children], shard.size)
    number = result.generation + 1
    history = list(result.history)
    if not shard.round:
        history.append(entry(members, round=0, worker=WORKER, generation=0))
    history.append(
        entry(after, round=shard.round, worker=WORKER, generation=number, restarted=shard.restarted)
    )
    answers = {name: kept for _, part in whole for name, kept in part.answers.items()}
    elites = [record.hash for record in after[: elites_of(shard.size)]]
    return Population(
        result.identity,
        archive,
        {WORKER: [record.hash for record in after]},
        history,
        number,
        answers={elite: answers[elite] for elite in elites if elite in answers},
    )


def rival_answers(
    before: Population | None, after: Population, answers: Callable[[Record], Any]
) -> dict[str, Any]:
    """The answers that a shard's result carries: of those whom it has measured, the best, who may be the last elite.

    :param before: the population of the round before.
    :param after: what `measure_shard` returned.
    :param answers: what a record's merge answers, as JSON.
    """
    assert after.shard is not None
    known = before.archive if before else ()
    new = ranked(record for record in after.archive if record.finished and record.hash not in known)
    elites = new[: elites_of(after.shard.size)]
    return after.answers | {record.hash: answers(record) for record in elites}


def _generation_zero(search: Search, size: int) -> list[Child]:
    """Everything that needs no search, filled up at random to the size of a population."""
    zero = [Child(genome, origin) for origin, genome in generation_zero(search.space)]
    rng = search.random(f"{STREAM}/start")
    missing = max(0, size - len(zero))
    return zero + [Child(search.space.random(rng), "immigrant") for _ in range(missing)]


def _blind(search: Search, size: int, zero: Sequence[Child]) -> Offspring:
    """The first children: mutants of generation 0, dealt out at random.

    As nothing is measured yet, there is neither an elite to mutate nor one to race with.
    """
    rng = _rng(search, 1)
    order = rng.permutation(len(zero))
    parents = [zero[order[i % len(zero)]].genome for i in range(size)]
    mutants = [Child(mutate(parent, search.space, rng), "mutation", (parent.hash,)) for parent in parents]
    return Offspring(mutants, None, from_strategy=False)


def _rng(search: Search, generation: int) -> np.random.Generator:
    return search.random(f"{STREAM}/generation {generation}")


def _hashes(children: Sequence[Child]) -> list[str]:
    return [child.genome.hash for child in children]


def _replay(
    search: Search, population: Population, parameters: EvolutionParameters, zero: Sequence[Child]
) -> Evolution:
    """The evolution as far as the archive knows it, and with it the strategy's own state."""
    archive = population.archive
    try:
        evolution = Evolution(
            ranked(archive[child] for child in _hashes(zero))[: parameters.size],
            space=search.space,
            strategy=search.strategy(parameters.strategy, parameters.size, STREAM),
            collapse=parameters.collapse,
        )
        for generation in range(1, population.generation + 1):
            first = generation == 1
            offspring = (
                _blind(search, parameters.size, zero) if first else evolution.ask(_rng(search, generation))
            )
            evolution.tell(offspring, [archive[child] for child in _hashes(offspring.children)])
        same = [record.hash for record in evolution.members] == population.islands[WORKER]
    except KeyError:
        same = False
    if not same:
        raise InputError(
            "the state does not follow from its archive",
            where="input state",
            why="it was made with another population, strategy, collapse or methods",
            fix="run all rounds with the same settings",
        )
    return evolution


def _measure(
    search: Search,
    archive: Archive,
    candidates: Sequence[tuple[Child, int]],
    offspring: Offspring,
    shard: Shard,
) -> None:
    """Measure one worker's run of those genomes that nobody has measured yet."""
    new = {child.genome.hash: (child, number) for child, number in reversed(candidates)}
    unmeasured = [new.pop(child.genome.hash) for child, _ in candidates if child.genome.hash in new]
    unmeasured = [(child, number) for child, number in unmeasured if child.genome.hash not in archive]
    length = -(-len(unmeasured) // shard.workers)
    own = unmeasured[shard.index * length : (shard.index + 1) * length]
    search.progress.start(f"round {shard.round}/shard {shard.index} of {shard.workers}", len(own))
    for child, number in own:
        shared = Provenance(
            "", round=shard.round, worker=WORKER, generation=number, seed=search.identity.seed
        )
        search.measure(child.genome, child.provenance(shared), offspring.rival, archive)
    search.progress.done()


def _check(shards: Sequence[Shard], results: int) -> None:
    """Refuse what are not all shards of one generation, each once. shards: by index."""
    if len(shards) < results:
        raise InputError(
            "a result is no shard",
            where="input results",
            fix="give what the workers of one round left, not what a selection did",
        )
    first = shards[0]
    if any(replace(shard, index=0) != replace(first, index=0) for shard in shards):
        raise InputError(
            "the shards are of different generations",
            where="input results",
            why="they differ in round, workers, or in the children that they share out",
            fix="give the results of the workers of one round",
        )
    indices = [shard.index for shard in shards]
    if indices != list(range(first.workers)):
        raise InputError(
            f"the results are not those of the {first.workers} workers, each once",
            where="input results",
            why=f"shards {', '.join(map(str, indices))} are there",
            fix=f"give shards 0 to {first.workers - 1} of round {first.round}; run the lost ones alone again",
        )
