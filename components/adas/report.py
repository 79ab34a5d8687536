"""The report split, once: scores of the agent as it was stored, and every claim of the phase with its control."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from components.shared.agent.agent import Agent
from components.shared.agent.architecture import Route
from components.shared.agent.dispatcher import Dispatcher
from components.shared.evaluation.answers import correct
from components.shared.evaluation.claims import claim
from components.shared.evaluation.report_split import score
from components.shared.evaluation.suites import all_items
from components.shared.runtime.phase import Run
from components.shared.tasks.item import Item

from .bench import EQUIPPED, judged
from .families import classes, held_out, questions_of_class
from .findings import expert_curve, search_curve
from .search import Entry, as_json
from .settings import Family, Settings


@dataclass(frozen=True)
class Outcome:
    """What the phase has made.

    learnt   families with an expert, and the levels that it was trained at
    chosen   place in the archive of the design that is published; by_hand: of the best hand design
    """

    learnt: Sequence[tuple[Family, list[int]]]
    archive: list[Entry]
    chosen: int
    by_hand: int


def report(
    run: Run, stored: Agent, outcome: Outcome, gates: Mapping[str, Any], curves: Mapping[str, Any]
) -> dict[str, float]:
    """Fill `run.scores` and `run.extra`; returns the metrics."""
    evaluation, archive = run.config.evaluation, outcome.archive
    items = all_items(split="report", items=evaluation.items, seed=run.seed)
    answers = remembered(stored.answers)
    score(run, answers, stored.tokenizer)
    ours = correct(answers, stored.tokenizer, items)
    default = correct(stored.model, stored.tokenizer, items, batch=evaluation.batch)
    hand = archive[outcome.by_hand]
    by_hand = ours
    if outcome.by_hand != outcome.chosen:
        other = Agent(
            stored.model,
            stored.tokenizer,
            hand.design.architecture,
            experts=stored.experts,
            dispatcher=stored.dispatcher,
            answer_tokens=stored.answer_tokens,
        )
        by_hand = correct(remembered(other.answers), stored.tokenizer, items)
    for place, right in ((0, default), (outcome.by_hand, by_hand), (outcome.chosen, ours)):
        archive[place].test_fitness = float(right.mean())

    chosen = archive[outcome.chosen]
    unit = "accuracy, all suites, report split"
    better = "the searched agent answers better than the model alone"
    alone = "the model alone, greedy, no tools"
    found = "search finds what no hand design has"
    controls = [
        claim(better, chosen.name, ours, alone, default, unit=unit, seed=run.seed),
        claim(found, chosen.name, ours, hand.name, by_hand, unit=unit, seed=run.seed),
        *(control_of_expert(stored, family, levels, run) for family, levels in outcome.learnt),
    ]
    if stored.dispatcher is not None:
        controls.append(control_of_dispatcher(stored.dispatcher, run.settings, run.seed))
    shown = items[:: max(1, len(items) // 6)]
    run.extra |= {
        "controls": controls,
        "curves": {
            **{f"expert: {name}": expert_curve(points) for name, points in curves.items()},
            "architecture search": search_curve(as_json(archive)),
        },
        "experts": dict(gates),
        "archive": as_json(archive),
        "chosen": {"place": outcome.chosen, "best_by_hand": outcome.by_hand},
        "samples": [
            {"prompt": item.system + item.prompt, "answer": said, "expected": item.answer, "note": item.task}
            for item, said in zip(shown, answers(shown), strict=True)
        ],
    }
    metrics = {
        "search": float(chosen.fitness or 0.0),
        "select": float(chosen.select or 0.0),
        "report": float(ours.mean()),
        "report_default": float(default.mean()),
        "report_by_hand": float(by_hand.mean()),
        "experts": float(len(outcome.learnt)),
        "designs": float(len(archive)),
    }
    for (family, _), one in zip(outcome.learnt, controls[2:], strict=False):
        metrics |= {f"{family.name}_expert": one["value"], f"{family.name}_base": one["control_value"]}
    return metrics


def control_of_expert(agent: Agent, family: Family, levels: list[int], run: Run) -> dict[str, Any]:
    """An expert against the base on its family, both with tools."""
    items = held_out(family, "report", levels, run.config.evaluation.items, run.seed)
    base = Agent(
        agent.model, agent.tokenizer, EQUIPPED, experts=agent.experts, answer_tokens=agent.answer_tokens
    )
    return claim(
        f"the expert is better at {family.name} than the base",
        f"expert {family.name}",
        judged(items, base.generate(items, Route(experts={family.name: 1.0}))),
        "base",
        judged(items, base.generate(items, Route())),
        unit=f"accuracy, {family.name} at levels {', '.join(map(str, levels))}, report split",
        seed=run.seed,
    )


def control_of_dispatcher(dispatcher: Dispatcher, settings: Settings, seed: int) -> dict[str, Any]:
    """Right classes against always one and the same, in equal numbers of each."""
    hits: list[bool] = []
    for name in classes(settings):
        items = questions_of_class(settings, name, "report", seed)
        said = dispatcher.dispatch([item.system + item.prompt for item in items])
        hits += [found == name for found, _ in said]
    return claim(
        "the dispatcher tells the families apart",
        "dispatcher",
        np.array(hits),
        "the commonest class for all",
        np.arange(len(hits)) < settings.dispatch_items,
        unit="accuracy, report split",
        seed=seed,
    )


def remembered(answers: Callable[[Sequence[Item]], list[str]]) -> Callable[[Sequence[Item]], list[str]]:
    """The same agent, which works out every prompt once: suites ask some of them twice."""
    known: dict[str, str] = {}

    def ask(items: Sequence[Item]) -> list[str]:
        new = {item.system + item.prompt: item for item in items if item.system + item.prompt not in known}
        known.update(zip(new, answers(list(new.values())), strict=True))
        return [known[item.system + item.prompt] for item in items]

    return ask
