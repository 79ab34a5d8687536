"""How often a constant answer is right in each task of reasoning-gym, by level: writes shared/tasks/gym_chance.py.

    python -m tests.performance.tasks.gym_chance [NAME …]

Of `DRAWS` questions (fewer where they take more than `SECONDS` of a core) the first half says which answer is the most
frequent one, the second half how often it is right: a guess that did not see what it is scored on. Levels that share a
configuration share the figure. With names, only these are counted anew. Prints the tasks with few different questions.
"""

from __future__ import annotations

import random
import sys
import time
from collections import Counter
from pathlib import Path

from components.shared.runtime.errors import InputError
from components.shared.tasks import gym_chance
from components.shared.tasks.generators import gym
from components.shared.tasks.item import LEVELS

DRAWS, SECONDS = 40, 0.5


def constant(name: str, level: int) -> tuple[float, int, int]:
    """Chance of a constant answer, questions drawn, and how many of them are different."""
    rng, start, drawn = random.Random(f"chance/{name}/{level}"), time.process_time(), []
    while len(drawn) < DRAWS and (len(drawn) < 4 or time.process_time() - start < SECONDS):
        drawn.append(gym.question(name, rng, level))
    answers = [draft.answer for draft in drawn]
    half = len(answers) // 2
    guess = Counter(answers[:half]).most_common(1)[0][0]
    right = sum(answer == guess for answer in answers[half:]) / (len(answers) - half)
    return round(right, 3), len(drawn), len({draft.prompt for draft in drawn})


def main() -> None:
    """Count, print, write."""
    chances = dict(gym_chance.CHANCE)
    for name in sys.argv[1:] or list(chances):
        known: dict[str, float] = {}
        row = []
        for level in LEVELS:
            try:
                key = repr(gym.configuration(name, level))
                if key not in known:
                    known[key], drawn, different = constant(name, level)
                    if different < 0.9 * drawn:
                        print(
                            f"{name} level {level}: {different} of {drawn} questions are different",
                            flush=True,
                        )
                row.append(known[key])
            except InputError as error:
                print(f"{name} level {level}: {error}", flush=True)
                row.append(0.0)
        chances[name] = tuple(row)
        print(name, row, flush=True)
        write(chances)


def write(chances: dict[str, tuple[float, ...]]) -> None:
    """The module, one line a task."""
    lines = [f'    "{name}": ({", ".join(map(str, row))}),\n' for name, row in chances.items()]
    head = (
        '"""How often a constant answer is right, by task of reasoning-gym and level 1 to 10.\n\n'
        "Written by tests/performance/tasks/gym_chance.py.\n"
        '"""\n\nfrom __future__ import annotations\n\nCHANCE: dict[str, tuple[float, ...]] = {\n'
    )
    Path(gym_chance.__file__).write_text(head + "".join(lines) + "}\n")


if __name__ == "__main__":
    main()
