"""An answer that reasoning-gym's `score_answer` finds right, for every entry: five of its tasks state none.

Three of the five put an example into the metadata. Rush Hour is solved by breadth-first search over positions (its boards
have at most some ten thousand of them within reach), BoxNet by carrying one box after another along rows and columns.
"""

from __future__ import annotations

import json
from collections import deque
from typing import Any

REACH = 60_000
"""Positions of a Rush Hour board that are looked at."""


def solution(name: str, entry: dict[str, Any]) -> str | None:
    """A right answer as text; None where the task's author left none and it is not found."""
    if name == "rush_hour":
        return rush_hour(entry["metadata"]["board_config"])
    if name == "boxnet":
        return boxnet(entry["metadata"]["initial_state"])
    if name == "graph_color":
        return json.dumps(entry["metadata"]["possible_answer"])
    key = {"propositional_logic": "example_answer", "rubiks_cube": "example_correct_answer"}.get(name)
    answer = entry["answer"] if key is None else entry["metadata"][key]
    return None if answer is None else str(answer).strip()


def rush_hour(board: str) -> str | None:
    """The fewest moves (`A+2 C-1 …`) that bring car A to the right edge; None beyond REACH positions.

    :param board: 36 characters, row by row: letters are cars, `o` free, `x` a wall.
    """
    size = 6
    cells = {
        car: [i for i, mark in enumerate(board) if mark == car] for car in sorted(set(board) - set("ox"))
    }
    stride = {car: places[1] - places[0] for car, places in cells.items()}
    names = {
        car: chr(ord("A") + index) for index, car in enumerate(cells)
    }  # as the board that is shown has them
    walls = {i for i, mark in enumerate(board) if mark == "x"}
    cars = list(cells)
    start = tuple(cells[car][0] for car in cars)
    length = {car: len(places) for car, places in cells.items()}

    def covered(state: tuple[int, ...]) -> set[int]:
        return walls | {
            at + step * stride[car]
            for car, at in zip(cars, state, strict=True)
            for step in range(length[car])
        }

    before: dict[tuple[int, ...], tuple[tuple[int, ...], str] | None] = {start: None}
    queue = deque([start])
    goal = cells["A"][0] // size * size + size - length["A"]
    while queue and len(before) < REACH:
        state = queue.popleft()
        if state[0] == goal:
            moves = []
            while (step := before[state]) is not None:
                state, move = step
                moves.append(move)
            return " ".join(reversed(moves))
        taken = covered(state)
        for index, car in enumerate(cars):
            for sign in (1, -1):
                at = state[index]
                for distance in range(1, size):
                    edge = at + (length[car] - 1) * stride[car] if sign > 0 else at
                    into = edge + sign * stride[car]
                    leaves_row = stride[car] == 1 and into // size != edge // size
                    if leaves_row or not 0 <= into < size * size or into in taken:
                        break
                    at += sign * stride[car]
                    moved = (*state[:index], at, *state[index + 1 :])
                    if moved not in before:
                        before[moved] = (state, f"{names[car]}{'+' if sign > 0 else '-'}{distance}")
                        queue.append(moved)
    return None


def boxnet(squares: dict[str, list[str]]) -> str:
    """A plan, one action a step: each box goes down or up its column, along the row, and onto a target of its colour.

    :param squares: "row_column" (of centres) → boxes and targets there.
    """
    targets: dict[str, list[tuple[float, float]]] = {}
    boxes: list[tuple[str, tuple[float, float]]] = []
    for name, things in squares.items():
        row, column = map(float, name.split("_"))
        for thing in things:
            kind, colour = thing.split("_")
            if kind == "box":
                boxes.append((colour, (row, column)))
            else:
                targets.setdefault(colour, []).append((row, column))
    plan = []
    for colour, (row, column) in boxes:
        if not targets.get(colour):
            continue
        goal = targets[colour].pop()
        while (row, column) != goal:
            agent = f"Agent[{row}, {column}]"
            if row != goal[0]:
                row += 1 if goal[0] > row else -1
            else:
                column += 1 if goal[1] > column else -1
            plan.append({agent: f"move(box_{colour}, square[{row}, {column}])"})
        plan.append({f"Agent[{row}, {column}]": f"move(box_{colour}, target_{colour})"})
    return json.dumps(plan)
