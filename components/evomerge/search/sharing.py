"""One population whose evaluations are shared out over workers: `evomerge.fan_out=evaluations`.

A round is one generation. Each worker breeds the very same children, since they follow from the archive, the seed and the
number of the generation, and measures a run of them, its shard; `gather` puts the shards together and decides who
survives. So a lost worker costs its shard and nothing else, and the population does not depend on how many workers
there are.

Before the first children can be bred from what is best in generation 0, all of it has to be measured. That would be a
barrier, one more round of pods, for the cheapest of all generations. Instead the first children are bred blindly, as
mutants of generation 0 whatever it is worth, and the workers of the first round share out both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from components.shared.runtime.errors import InputError

from .archive import Archive, Birth, Record, ranked
from .evolution import Brood, Child, Evolution, elites_of, survivors
from .generation_zero import generation_zero
from .history import entry, since_best
from .population import Population, Shard, require_one_search
from .variation import mutate
from .worker import Search

WORKER = 0  # all of the population is on one island, whoever measures it
STREAM = "population"  # the name with which the names of its random streams begin


@dataclass(frozen=True)
class Breeding:
    """How the population evolves; the same for every worker and every round.

    size: of the population. breeder, collapse, patience: as settings.py has them.
    """

    size: int
    breeder: str
    collapse: float
    patience: int


def share(
    search: Search, before: Population | None, how: Breeding, *, round: int, index: int, workers: int
) -> Population:
    """What worker `index` of `workers` adds to the population `before`: the records of its shard.

    before: None in round 0. After a plateau there is nothing to measure.
    Raises InputError where `before` is not what this search has come to before `round`.
    """
    before = before or Population(search.setting, Archive())
    shard = Shard(index, workers, round, how.size, before.islands.get(WORKER, []), [])
    archive = Archive(before.archive)
    if since_best(before.history, WORKER) >= how.patience:
        search.progress.note(f"a plateau, nothing better for {how.patience} generations")
    else:
        if round != before.generation:
            raise InputError(
                f"the state has lived {before.generation} generations, and this is round {round}",
                where="input state",
                fix="give what the selection of the round before left; none in round 0",
            )
        zero = _generation_zero(search, how.size)
        if round:
            brood = _replay(search, before, how, zero).ask(_rng(search, round + 1))
            births = []
        else:
            brood = _blind(search, how.size, zero)
            births = [(child, 0) for child in zero]
            shard = replace(shard, members=_hashes(zero))
        births += [(child, round + 1) for child in brood.children]
        _measure(search, archive, births, brood, shard)
        shard = replace(shard, children=_hashes(brood.children), restarted=brood.restarted)
    return replace(before, archive=archive, shard=shard)


def gather(results: Sequence[Population]) -> Population:
    """The population after a generation, out of the shards of all workers, in any order.

    Raises InputError where a shard is missing, given twice, or of another search or round.
    """
    require_one_search(results)
    whole = [(result.shard, result) for result in results if result.shard is not None]
    whole.sort(key=lambda pair: pair[0].index)
    _check([shard for shard, _ in whole], len(results))
    shard, result = whole[0]
    if not shard.children:
        return replace(result, shard=None)
    archive = Archive(record for _, one in whole for record in one.archive)
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
    answers = {name: kept for _, one in whole for name, kept in one.answers.items()}
    elites = [record.hash for record in after[: elites_of(shard.size)]]
    return Population(
        result.setting,
        archive,
        {WORKER: [record.hash for record in after]},
        history,
        number,
        answers={elite: answers[elite] for elite in elites if elite in answers},
    )


def rivals(before: Population | None, after: Population, answers: Callable[[Record], Any]) -> dict[str, Any]:
    """What the answers of a shard's result have to be: of whom it has measured, the best, who may be the last elite."""
    assert after.shard is not None
    known = before.archive if before else ()
    found = ranked(record for record in after.archive if record.finished and record.hash not in known)
    new = {record.hash: answers(record) for record in found[: elites_of(after.shard.size)]}
    return after.answers | new


def _generation_zero(search: Search, size: int) -> list[Child]:
    """Everything that needs no search, filled up at random to the size of a population."""
    zero = [Child(genome, origin) for origin, genome in generation_zero(search.space)]
    rng = search.random(f"{STREAM}/start")
    missing = max(0, size - len(zero))
    return zero + [Child(search.space.random(rng), "immigrant") for _ in range(missing)]


def _blind(search: Search, size: int, zero: Sequence[Child]) -> Brood:
    """The first children: mutants of generation 0, dealt out at random. As nothing is measured yet, there is neither an
    elite to breed from nor one to race with.
    """
    rng = _rng(search, 1)
    order = rng.permutation(len(zero))
    parents = [zero[order[i % len(zero)]].genome for i in range(size)]
    mutants = [Child(mutate(parent, search.space, rng), "mutation", (parent.hash,)) for parent in parents]
    return Brood(mutants, None, bred=False)


def _rng(search: Search, generation: int) -> np.random.Generator:
    return search.random(f"{STREAM}/generation {generation}")


def _hashes(children: Sequence[Child]) -> list[str]:
    return [child.genome.hash for child in children]


def _replay(search: Search, population: Population, how: Breeding, zero: Sequence[Child]) -> Evolution:
    """The evolution as far as the archive knows it, and with it the breeder's own state."""
    archive = population.archive
    try:
        evolution = Evolution(
            ranked(archive[child] for child in _hashes(zero))[: how.size],
            space=search.space,
            breeder=search.breeder(how.breeder, how.size, STREAM),
            collapse=how.collapse,
        )
        for generation in range(1, population.generation + 1):
            first = generation == 1
            brood = _blind(search, how.size, zero) if first else evolution.ask(_rng(search, generation))
            evolution.tell(brood, [archive[child] for child in _hashes(brood.children)])
        same = [record.hash for record in evolution.members] == population.islands[WORKER]
    except KeyError:
        same = False
    if not same:
        raise InputError(
            "the state does not follow from its archive",
            where="input state",
            why="it was made with another population, breeder, collapse or methods",
            fix="run all rounds with the same settings",
        )
    return evolution


def _measure(
    search: Search, archive: Archive, births: Sequence[tuple[Child, int]], brood: Brood, shard: Shard
) -> None:
    """Measure one worker's run of those genomes that nobody has measured yet."""
    new = {child.genome.hash: (child, number) for child, number in reversed(births)}
    todo = [new.pop(child.genome.hash) for child, _ in births if child.genome.hash in new]
    todo = [(child, number) for child, number in todo if child.genome.hash not in archive]
    length = -(-len(todo) // shard.workers)
    mine = todo[shard.index * length : (shard.index + 1) * length]
    search.progress.start(f"round {shard.round}/shard {shard.index} of {shard.workers}", len(mine))
    for child, number in mine:
        birth = Birth("", round=shard.round, worker=WORKER, generation=number, seed=search.setting.seed)
        search.measure(child.genome, child.birth(birth), brood.rival, archive)
    search.progress.done()


def _check(shards: Sequence[Shard], results: int) -> None:
    """Raises InputError unless these are all shards of one generation, each once. shards: by index."""
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
    given = [shard.index for shard in shards]
    if given != list(range(first.workers)):
        raise InputError(
            f"the results are not those of the {first.workers} workers, each once",
            where="input results",
            why=f"shards {', '.join(map(str, given))} are given",
            fix=f"give shards 0 to {first.workers - 1} of round {first.round}; run the lost ones alone again",
        )
