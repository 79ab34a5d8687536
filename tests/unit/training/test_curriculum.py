"""The course in a run: which stages follow it, how it moves, and what the artifact keeps of it."""

from __future__ import annotations

import pytest

from components.shared.models.build import build
from components.shared.models.remote_code.configuration_cognate import CognateConfig
from components.shared.tasks.room import Room
from components.shared.tasks.tokenizer import byte_tokenizer
from components.training import curriculum
from components.training.settings import CourseSettings, Settings, Stage

SHAPE = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2}


def stage(**more):
    return Stage(**{"name": "a", "kind": "adaptation", "steps": 4, "levels": [1, 2, 3]} | more)


def settings(**more):
    ten = [stage(name=str(number)) for number in range(10)]
    return Settings(**{"stages": ten, "tasks": {"copy": 1.0, "chain": 1.0}, "lr": 0.01} | more)


ROOM = Room(byte_tokenizer(), None)


def found(place=2.0):
    success = {"1": 0.9, "2": 0.6, "3": 0.2}
    one = {"place": place, "low": 1.0, "high": 3.0, "items": 16, "right": 9, "success": success}
    return {"copy": one, "chain": one}


def begun(place=2.0):
    state = {"done": 100, "rates": {}}
    curriculum.start(state, found(place))
    return state


def test_a_fresh_network_is_placed_below_the_levels_and_starts_at_the_bottom():
    model = build(CognateConfig(**SHAPE), seed=0)
    placed = curriculum.placements(model, byte_tokenizer(), settings(), batch=64, seed=0)
    assert set(placed) == {"copy", "chain"} and placed["copy"]["place"] < 1
    state = {"done": 0}
    curriculum.start(state, placed)
    assert state["rung"] == 1 and state["path"] == [[0, 1]] and state["rates"]["copy 1"] < 0.5


def test_adaptation_follows_the_course_unless_it_names_its_own_tasks_or_there_is_none():
    assert curriculum.follows_course(stage(), settings())
    assert not curriculum.follows_course(stage(tasks={"copy": 1.0}), settings())
    assert not curriculum.follows_course(stage(kind="stabilisation"), settings())
    assert not curriculum.follows_course(stage(), settings(course=None))


def test_items_are_those_of_the_rung_and_the_same_ones_again():
    first, again = (
        curriculum.draw(stage(), settings(), begun(), ROOM, seed=1, step=3, count=40) for _ in range(2)
    )
    assert first == again
    assert {item.level for item in first if item.task in ("copy", "chain")} <= {1, 2}
    assert {item.task for item in first} > {"copy", "chain"}


@pytest.mark.parametrize("rate, rung", [(0.9, 3), (0.65, 2), (0.1, 1)])
def test_the_rung_changes_after_a_window_by_the_success_on_it(rate, rung):
    state = begun()
    state["rates"] = {"copy 2": rate, "chain 2": rate}
    curriculum.draw(stage(), settings(), state, ROOM, seed=1, step=19, count=4)
    assert state["rung"] == 2
    curriculum.draw(stage(), settings(), state, ROOM, seed=1, step=20, count=4)
    assert state["rung"] == rung
    assert state["path"] == ([[0, 2]] if rung == 2 else [[0, 2], [120, rung]])


def test_the_artifact_keeps_where_the_model_stood_and_stands_and_the_ten_rungs():
    kept = curriculum.record(settings(), begun(), found(3.0))
    assert [row["task"] for row in kept["assessment"]] == ["copy", "chain"]
    assert kept["assessment"][0]["place"] == 2.0 and kept["assessment"][0]["after"]["place"] == 3.0
    assert len(kept["rungs"]) == 10 and kept["start"] == kept["end"] == 2


def test_a_kind_may_have_sources_of_its_own():
    own = CourseSettings(sources={"organic": {"file:/somewhere/book.txt": 1.0}})
    rung = curriculum.rungs(settings(course=own), found(), {})[0]
    assert "file:/somewhere/book.txt" in rung.tasks and "prose" not in rung.tasks
