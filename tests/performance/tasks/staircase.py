"""How well the baseline assessment places simulated models, beside the transformed up-down staircase (Levitt 1971).

    python -m tests.performance.tasks.staircase

Models are logistic in the level, of abilities drawn from 1 to 10 and slopes of 0.5 to 4 a level, lapses of 3%. The
two-down, one-up staircase converges where success is 70.7%; its estimate is the mean level of its last reversals, moved to
the level half way between chance and knowing for the median slope. Both ask as many questions.
"""

from __future__ import annotations

import numpy as np

from components.shared.evaluation.staircase import LAPSE, SLOPES, Staircase

MODELS, LEVELS = 400, 10


def rate(ability: float, slope: float, chance: float, level: float) -> float:
    """Success of a model at a level."""
    return chance + (1 - chance - LAPSE) / (1 + np.exp(-slope * (ability - level)))


def bayesian(
    ability: float, slope: float, chance: float, questions: int, rng: np.random.Generator
) -> tuple[float, float, float]:
    """Place and interval after rounds of four questions."""
    stair = Staircase(np.full(LEVELS, chance), range(1, LEVELS + 1))
    for _ in range(questions // 4):
        level = stair.best_level()
        stair.observe(level, list(rng.random(4) < rate(ability, slope, chance, level)))
    found = stair.placement()
    return found.place, found.low, found.high


def up_down(ability: float, slope: float, chance: float, questions: int, rng: np.random.Generator) -> float:
    """The mean of the reversals but the first two, harder after two right answers in a row, easier after a wrong one."""
    level, run, direction, reversals = 5, 0, 0, []
    for _ in range(questions):
        right = rng.random() < rate(ability, slope, chance, level)
        run = run + 1 if right else 0
        step = -1 if not right else 1 if run == 2 else 0
        if step:
            run = 0
            if direction and step != direction:
                reversals.append(level)
            direction = step
            level = int(np.clip(level + step, 1, LEVELS))
    place = float(np.mean(reversals[2:] or reversals or [level]))
    know = np.clip((0.707 - chance) / (1 - chance - LAPSE), 0.01, 0.99)
    return place + np.log(know / (1 - know)) / float(np.median(SLOPES))


def main() -> None:
    """A row for each chance and number of questions."""
    print(
        "| chance | questions | ours: error (RMS) | bias | 95% intervals that hold | width | up-down: error (RMS) | bias |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for chance in (0.1, 0.5):
        for questions in (16, 32, 64):
            rng = np.random.default_rng(0)
            ours, theirs, held, width = [], [], [], []
            for _ in range(MODELS):
                ability, slope = rng.uniform(1, LEVELS), float(rng.choice(SLOPES))
                place, low, high = bayesian(ability, slope, chance, questions, rng)
                ours.append(place - ability)
                held.append(low <= ability <= high)
                width.append(high - low)
                theirs.append(up_down(ability, slope, chance, questions, rng) - ability)
            rms = [np.sqrt(np.mean(np.square(errors))) for errors in (ours, theirs)]
            print(
                f"| {chance} | {questions} | {rms[0]:.2f} | {np.mean(ours):+.2f} | {np.mean(held):.1%}"
                f" | {np.mean(width):.1f} | {rms[1]:.2f} | {np.mean(theirs):+.2f} |"
            )


if __name__ == "__main__":
    main()
