"""The course of a training run: where the model stands, the rungs that follow from it, and the rung that it is on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from components.shared.evaluation.answers import correct
from components.shared.evaluation.staircase import assess
from components.shared.tasks.batches import mixture
from components.shared.tasks.corpora import tasks_of
from components.shared.tasks.course import SOURCES, DataKind, Rung, build, progressed, starting_rung, success
from components.shared.tasks.item import Item
from components.shared.tasks.registry import find
from components.shared.tasks.room import Room

from .settings import Band, CourseSettings, Settings, Stage, all_levels

Placements = dict[str, dict[str, Any]]
"""Task → its placement as plain JSON."""


def placements(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, settings: Settings, *, batch: int, seed: int
) -> Placements:
    """Where a model stands in each task of the course, at the levels that some stage trains.

    :param batch: items in one forward.
    """
    course = settings.course
    assert course is not None
    trained = all_levels(settings)
    levels = {task: trained[task] for task in settings.tasks if task in trained}
    found = assess(
        lambda items: correct(model, tokenizer, items, batch=batch).tolist(),
        levels,
        rounds=course.rounds,
        items=course.items,
        seed=seed,
    )
    return {task: placement.as_dict() for task, placement in found.items()}


def first_rates(found: Placements) -> dict[str, float]:
    """The success rates of all cells as the assessment expects them: what the edge of chaos begins with."""
    return {
        f"{task} {level}": rate for task, place in found.items() for level, rate in place["success"].items()
    }


def places(found: Placements) -> dict[str, float]:
    """Task → the level at which the model stands."""
    return {task: place["place"] for task, place in found.items()}


def rungs(settings: Settings, found: Placements, levels: Mapping[str, Sequence[int]]) -> list[Rung]:
    """The ten rungs, within the levels of a stage or of all.

    :param levels: task → those that it may be asked at.
    """
    course = settings.course
    assert course is not None
    shares: dict[DataKind, float] = {
        "organic": course.organic,
        "retrieval": course.retrieval,
        "scenarios": course.scenarios,
    }
    return build(places(found), tasks_of(settings.tasks), levels, shares, SOURCES | course.sources)


def stage_levels(stage: Stage, tasks: Sequence[str]) -> dict[str, Sequence[int]]:
    """Task → the levels of a stage."""
    return {task: stage.levels[task] if isinstance(stage.levels, dict) else stage.levels for task in tasks}


def follows_course(stage: Stage, settings: Settings) -> bool:
    """Whether a stage draws from the course: one of adaptation that names no tasks of its own."""
    return settings.course is not None and stage.kind == "adaptation" and stage.tasks is None


def start(state: dict[str, Any], found: Placements) -> None:
    """Put the model on its first rung.

    :param state: the phase's. Kept here: "placements", "rung", "path" (step and rung, at every change), and the cells'
        "rates" as they are expected.
    """
    rung = starting_rung(places(found))
    state |= {"placements": found, "rung": rung, "path": [[0, rung]], "rates": first_rates(found)}


def draw(
    stage: Stage, settings: Settings, state: dict[str, Any], room: Room, *, seed: int, step: int, count: int
) -> list[Item]:
    """The items of a step of a stage that follows the course; every `window` steps the rung is thought over.

    :param state: "rung" and "path" may change; the running success rates of the cells decide.
    :param room: of the model.
    """
    course, tasks = settings.course, list(tasks_of(settings.tasks))
    assert course is not None
    ladder = rungs(settings, state["placements"], stage_levels(stage, tasks))
    if step and step % course.window == 0:
        advance(state, ladder, tasks, settings.band, at=state["done"] + step)
    rung = ladder[state["rung"] - 1]
    return mixture(rung.tasks, rung.levels, "train", seed, step, count, scratch=stage.scratch, room=room)


def advance(
    state: dict[str, Any], ladder: Sequence[Rung], tasks: Sequence[str], band: Band, *, at: int
) -> None:
    """Up, stay or down.

    :param at: step of all stages, for the path.
    """
    verifiable = [task for task in tasks if find(task).suite != "text"] or list(tasks)
    rate = success(ladder[state["rung"] - 1], state["rates"], verifiable)
    rung = progressed(state["rung"], rate, band.low, band.high)
    if rung != state["rung"]:
        state["path"].append([at, rung])
    state["rung"] = rung


def record(settings: Settings, state: dict[str, Any], after: Placements) -> dict[str, Any]:
    """What the artifact keeps: where the model stood and stands, the ten rungs, and its way over them.

    :param after: where the trained model stands.
    """
    course: CourseSettings | None = settings.course
    assert course is not None
    before: Placements = state["placements"]
    ladder = rungs(settings, before, all_levels(settings))
    return {
        "assessment": [
            {
                "task": task,
                **{key: value for key, value in found.items() if key != "success"},
                "after": {key: after[task][key] for key in ("place", "low", "high")},
            }
            for task, found in before.items()
        ],
        "start": state["path"][0][1],
        "end": state["rung"],
        "path": state["path"],
        "rungs": [rung.as_dict() for rung in ladder],
    }
