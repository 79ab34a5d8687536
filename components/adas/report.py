"""The report split, once: scores of the agent as it was stored, and every claim of the phase with its control."""

from __future__ import annotations

import functools
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

from .bench import EQUIPPED, right_answers
from .families import Class, held_out, questions
from .findings import expert_curve, search_curve
from .search import ArchiveEntry, as_json


@dataclass(frozen=True)
class SearchOutcome:
    """What the phase has brought forth.

    experts  name → tasks, and the levels that it was trained at
    classes  class of the dispatcher → tasks and levels
    chosen   index in the archive of the design that is published; by_hand: of the best hand design
    """

    experts: Mapping[str, Class]
    classes: Mapping[str, Class]
    archive: list[ArchiveEntry]
    chosen: int
    by_hand: int


def report(
    run: Run,
    stored: Agent,
    outcome: SearchOutcome,
    gates: Mapping[str, Any],
    curves: Mapping[str, Any],
    *,
    suite_items: int,
    class_items: int,
    batch: int,
) -> dict[str, float]:
    """Fill `run.scores` and `run.extra`.

    :param stored: the agent as it was published.
    :param gates: family → success rates of the base and the levels learnt.
    :param curves: family → success and divergence of each training step.
    :param suite_items: report items of each suite, and of each expert.
    :param class_items: report items of each class of the dispatcher.
    :param batch: items in a forward pass.
    :returns: the metrics.
    """
    archive = outcome.archive
    items = all_items(split="report", items=suite_items, seed=run.seed)
    answers = remembered(stored.answers)
    score(run, answers, stored.tokenizer, model=stored.model)
    ours = correct(answers, stored.tokenizer, items)
    default = correct(stored.model, stored.tokenizer, items, batch=batch)
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
    for index, right in ((0, default), (outcome.by_hand, by_hand), (outcome.chosen, ours)):
        archive[index].test_fitness = float(right.mean())

    chosen = archive[outcome.chosen]
    unit = "accuracy, all suites, report split"
    better = "the searched agent answers better than the model alone"
    alone = "the model alone, greedy, no tools"
    searched = "search finds what no hand design has"
    controls = [
        claim(better, chosen.name, ours, alone, default, unit=unit, seed=run.seed),
        claim(searched, chosen.name, ours, hand.name, by_hand, unit=unit, seed=run.seed),
        *(
            control_of_expert(stored, name, tasks, levels, items=suite_items, seed=run.seed)
            for name, (tasks, levels) in outcome.experts.items()
        ),
    ]
    if stored.dispatcher is not None:
        controls.append(
            control_of_dispatcher(stored.dispatcher, outcome.classes, items=class_items, seed=run.seed)
        )
    samples = items[:: max(1, len(items) // 6)]
    run.extra |= {
        "controls": controls,
        "curves": {
            **{f"expert: {name}": expert_curve(points) for name, points in curves.items()},
            "architecture search": search_curve(as_json(archive)),
        },
        "experts": dict(gates),
        "archive": as_json(archive),
        "chosen": {"index": outcome.chosen, "best_by_hand": outcome.by_hand},
        "samples": [
            {"prompt": item.system + item.prompt, "answer": text, "expected": item.answer, "note": item.task}
            for item, text in zip(samples, answers(samples), strict=True)
        ],
    }
    metrics = {
        "search": float(chosen.fitness or 0.0),
        "select": float(chosen.select or 0.0),
        "report": float(ours.mean()),
        "report_default": float(default.mean()),
        "report_by_hand": float(by_hand.mean()),
        "experts": float(len(outcome.experts)),
        "designs": float(len(archive)),
    }
    for name, control in zip(outcome.experts, controls[2:], strict=False):
        metrics |= {f"{name}_expert": control["value"], f"{name}_base": control["control_value"]}
    return metrics


def control_of_expert(
    agent: Agent, name: str, tasks: Sequence[str], levels: Sequence[int], *, items: int, seed: int
) -> dict[str, Any]:
    """An expert against the base on its family, both with tools.

    :param items: of the report split, over tasks and levels.
    :returns: the claim.
    """
    held_out_items = held_out(tasks, "report", levels, items, seed)
    base = Agent(
        agent.model, agent.tokenizer, EQUIPPED, experts=agent.experts, answer_tokens=agent.answer_tokens
    )
    return claim(
        f"the expert is better at {name} than the base",
        f"expert {name}",
        right_answers(held_out_items, base.generate(held_out_items, Route(experts={name: 1.0}))),
        "base",
        right_answers(held_out_items, base.generate(held_out_items, Route())),
        unit=f"accuracy, {name} at levels {', '.join(map(str, levels))}, report split",
        seed=seed,
    )


def control_of_dispatcher(
    dispatcher: Dispatcher, classes: Mapping[str, Class], *, items: int, seed: int
) -> dict[str, Any]:
    """Right classes against always one and the same, in equal numbers of each.

    :param items: of the report split, of each class.
    :returns: the claim.
    """
    hits: list[bool] = []
    for name, (tasks, levels) in classes.items():
        held_out_items = questions(tasks, "report", levels, 0, items, seed)
        dispatched = dispatcher.dispatch([item.system + item.prompt for item in held_out_items])
        hits += [other == name for other, _ in dispatched]
    return claim(
        "the dispatcher tells the families apart",
        "dispatcher",
        np.array(hits),
        "the commonest class for all",
        np.arange(len(hits)) < items,
        unit="accuracy, report split",
        seed=seed,
    )


def remembered(answers: Callable[[Sequence[Item]], list[str]]) -> Callable[[Sequence[Item]], list[str]]:
    """The same agent, which works out every prompt once: suites ask some of them twice."""
    known: dict[str, str] = {}

    @functools.wraps(answers)
    def ask(items: Sequence[Item]) -> list[str]:
        new = {item.system + item.prompt: item for item in items if item.system + item.prompt not in known}
        known.update(zip(new, answers(list(new.values())), strict=True))
        return [known[item.system + item.prompt] for item in items]

    return ask
