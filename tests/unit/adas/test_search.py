"""Designs, their archive, and the bench that measures them."""

import random

import numpy as np
import pytest
import torch

from components.adas import search
from components.adas.bench import Bench
from components.adas.cem import cross_entropy_method
from components.adas.families import learnable, questions, success_rates
from components.adas.space import Design, DesignSpace, design_space
from components.adas.svf import matrices
from components.shared.agent.agent import Agent
from components.shared.agent.architecture import TOOLS, Architecture, Route
from components.shared.agent.dispatcher import fit
from components.shared.runtime.errors import InputError
from components.shared.tasks.item import Item
from components.shared.tasks.registry import sample
from components.shared.tasks.tokenizer import byte_tokenizer
from tests.unit.shared.models.variants import cognate

SPACE = DesignSpace(("facts", "words"), ("facts", "other", "words"), ("no", "aloud", "quietly"), 3)


def some_items(count=24):
    return [sample(("recall", "reverse")[i % 2], "search", 1, i, 0) for i in range(count)]


@pytest.fixture(scope="module")
def bench():
    model = cognate(num_hidden_layers=3)
    experts = {
        name: {
            path: 1 + 0.5 * torch.randn(size, generator=torch.Generator().manual_seed(seed))
            for path, size in matrices(model).items()
        }
        for seed, name in enumerate(("facts", "words"))
    }
    items = some_items()
    names = ["facts" if item.task == "recall" else "words" for item in items]
    dispatcher = fit([item.prompt for item in items], names)

    def agent(architecture):
        return Agent(
            model, byte_tokenizer(), architecture, experts=experts, dispatcher=dispatcher, answer_tokens=4
        )

    return Bench(agent, items, dispatcher)


def test_mutations_and_crossings_are_always_valid_designs_and_reach_every_field():
    rng, design, seen = random.Random(0), Design("", "x", Architecture()), []
    for _ in range(400):
        design = SPACE.mutate(design, rng)
        if rng.random() < 0.1:
            design = SPACE.cross(design, SPACE.at_random(rng), rng)
        # what is stored is what is read again
        assert Architecture.model_validate_json(design.architecture.canonical_json) == design.architecture
        seen += [design.architecture]
    routes = [route for one in seen for route in one.all_routes]
    assert {route.think for route in routes} == {"no", "aloud", "quietly"}
    assert {name for route in routes for name in route.experts} == {"facts", "words"}
    assert {layer for route in routes for layer in route.skip} == {1, 2}
    assert {len(one.tools) for one in seen} >= {0, 4} and {route.branches for route in routes} == {1, 2}
    assert {name for one in seen for name in one.routes} == {"facts", "other", "words"}


def test_a_child_of_two_takes_every_part_from_one_of_them():
    rng = random.Random(3)
    for _ in range(50):
        one, other = SPACE.at_random(rng), SPACE.at_random(rng)
        child = SPACE.cross(one, other, rng).architecture
        a, b = one.architecture, other.architecture
        assert child.default in (a.default, b.default) and child.tools in (a.tools, b.tools)
        assert all(route in (a.routes.get(n), b.routes.get(n)) for n, route in child.routes.items())


def test_hand_designs_begin_with_the_model_alone_and_use_only_what_there_is():
    designs = DesignSpace((), ("other",), ("no",), 2).by_hand(0.5, {})
    assert designs[0].architecture == Architecture()
    assert not any(route.experts or route.skip for d in designs for route in d.architecture.all_routes)
    assert all(route.think == "no" for d in designs for route in d.architecture.all_routes)
    every = SPACE.by_hand(0.8, {"facts": 0.5})
    assert len({d.architecture.canonical_json for d in every}) == len(every)
    dispatched = next(d.architecture for d in every if d.name == "dispatched experts")
    assert set(dispatched.routes) == {"facts", "words"} and dispatched.threshold == 0.8


def test_the_design_space_an_agent_has_the_thoughts_that_its_model_knows():
    agent = Agent(cognate(), byte_tokenizer(), Architecture())
    assert design_space(agent, 2).think == ("no", "aloud")
    thinker = Agent(
        cognate(thoughts={"length": 2, "start": 259, "end": 260}), byte_tokenizer(), Architecture()
    )
    assert design_space(thinker, 2).think == ("no", "aloud", "quietly")


def test_the_bench_says_what_the_agent_would_say(bench):
    rng = random.Random(5)
    space = design_space(bench.agent(Architecture()), 3)
    for _ in range(6):
        architecture = space.at_random(rng).architecture
        texts = bench.agent(architecture).answers(bench.items)
        assert (
            bench.right(architecture) == [t == i.answer for t, i in zip(texts, bench.items, strict=True)]
        ).all()


def test_the_bench_asks_the_model_once_for_every_route_and_class(bench, monkeypatch):
    counts = []
    real = Agent.generate
    monkeypatch.setattr(
        Agent, "generate", lambda self, items, route: counts.append(len(items)) or real(self, items, route)
    )
    route = Route(experts={"words": 0.123})
    bench.right(Architecture(routes={"words": route}, threshold=0.0))
    bench.right(Architecture(routes={"words": route}, threshold=0.0, tools=TOOLS))
    assert sum(counts) <= len(bench.items) + 12 and counts.count(12) >= 1
    before = len(counts)
    bench.right(Architecture(routes={"words": route}, threshold=0.0, tools=("memory",)))
    assert len(counts) == before


def test_a_design_that_cannot_run_ranks_below_one_that_is_always_wrong(bench):
    wrong = search.evaluate(Design("", "wrong", Architecture()), 0, lambda a: np.zeros(4, dtype=bool))
    impossible = Design("", "no such expert", Architecture(default=Route(experts={"nobody": 1.0})))
    failed = search.evaluate(impossible, 0, bench.right)
    assert failed.fitness is None and "nobody" in failed.failure
    assert search.fittest([failed, wrong]) is wrong
    assert search.finalists([failed, wrong], 5) == [1]


def worth(architecture):
    """A known landscape: three parts count, each alone."""
    parts = [
        architecture.default.think == "aloud",
        "calculator" in architecture.tools,
        architecture.routes.get("words", architecture.default).experts.get("words") == 0.75,
    ]
    right = np.zeros(40, dtype=bool)
    right[: 10 + 10 * sum(parts)] = True
    return right


def test_evolution_finds_the_best_design_of_a_known_landscape():
    archive = [search.evaluate(Design("", "base", Architecture()), 0, worth)]
    for number in range(1, 40):
        search.generation(
            archive, number, SPACE, worth, random.Random(number), children=6, tournament=3, crossover=0.3
        )
    best = search.fittest(archive)
    assert best.fitness == 1.0 and best.key == best.design.architecture.canonical_json
    assert len({entry.key for entry in archive}) == len(archive) == 1 + 39 * 6
    assert best.generation > 0 and best.thought and best.low <= best.fitness <= best.high


def test_the_archive_survives_json_and_a_generation_depends_on_nothing_else():
    first = [search.evaluate(Design("", "base", Architecture()), 0, worth)]
    settings = {"children": 4, "tournament": 2, "crossover": 0.3}
    search.generation(first, 1, SPACE, worth, random.Random(1), **settings)
    second = [search.ArchiveEntry(**entry) for entry in search.as_json(first)]
    for archive in (first, second):
        search.generation(archive, 2, SPACE, worth, random.Random(2), **settings)
    assert search.as_json(first) == search.as_json(second)


class Exhausted(DesignSpace):
    """Has one design left to offer."""

    def mutate(self, parent, rng):
        return Design("", "tools", Architecture(tools=TOOLS))

    def cross(self, first, second, rng):
        return first


def test_an_exhausted_space_ends_a_generation_instead_of_repeating_designs():
    space = Exhausted((), (), ("no",), 1)
    archive = [search.evaluate(Design("", "base", Architecture()), 0, worth)]
    for number in (1, 2):
        search.generation(
            archive, number, space, worth, random.Random(number), children=8, tournament=2, crossover=0.3
        )
    assert [entry.name for entry in archive] == ["base", "tools"]


def test_the_cross_entropy_method_finds_the_top_of_a_hill_and_never_falls_below_its_start():
    top = np.array([0.8, 0.1, 0.6])

    def hill(x):
        return -float(((x - top) ** 2).sum())

    settings = {"iterations": 12, "population": 24, "elites": 6, "rng": np.random.default_rng(0)}
    best, value = cross_entropy_method(hill, np.full(3, 0.33), **settings)
    assert np.abs(best - top).max() < 0.05 and value == hill(best)
    best, value = cross_entropy_method(hill, top, **settings | {"iterations": 1})
    assert value == 0.0 and (best == top).all()


@pytest.mark.parametrize(
    ("truth", "levels"),
    [
        ({1: 1.0, 2: 0.8, 3: 0.6, 4: 0.3}, [2, 3, 4]),
        ({1: 0.95, 2: 0.9}, []),
        ({1: 0.0, 2: 0.5}, []),
        ({1: 0.5, 2: 0.05, 3: 0.5}, [1]),
    ],
)
def test_a_family_is_learnt_at_the_levels_where_the_base_is_right_at_times(truth, levels):
    seen = []

    def success(items):
        seen.append((items[0].level, len(items), {item.task for item in items}, items[0].split))
        return np.arange(20) < 20 * truth[items[0].level]

    rates = success_rates(["reverse", "copy"], sorted(truth), success, low=0.1, count=20, seed=0)
    assert learnable(rates, 0.1, 0.8) == levels
    assert all(call[1:] == (20, {"reverse", "copy"}, "search") for call in seen)
    hard = [level for level, rate in truth.items() if rate < 0.1]
    assert not hard or len(seen) == min(hard)  # higher levels are harder: not even tried


def test_training_questions_cover_all_tasks_and_levels_and_differ_from_step_to_step():
    tasks = ["reverse", "copy", "sort"]
    items = [item for step in range(3) for item in questions(tasks, "train", [1, 3], step, 8, 0)]
    cells = {(item.task, item.level) for item in items}
    assert cells == {(task, level) for task in tasks for level in (1, 3)}
    assert {item.split for item in items} == {"train"} and len({item.prompt for item in items}) == 24


def test_a_bench_refuses_a_route_to_a_class_that_the_dispatcher_does_not_know(bench):
    with pytest.raises(InputError, match="requests"):
        bench.right(Architecture(routes={"requests": Route()}))


def test_items_of_a_bench_keep_their_own_instruction(bench):
    agent = bench.agent(Architecture())
    items = [Item("x", 1, "search", "47+3=", "", system="tool: ")]
    assert agent.generate(items, Route(instruction="persona")) == agent.generate(items, Route())
