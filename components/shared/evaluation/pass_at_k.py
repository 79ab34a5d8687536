"""pass@k of code benchmarks: whether one of k samples passes the tests, estimated from n ≥ k samples a problem.

The estimator is that of Chen et al. 2021 (arXiv 2107.03374, §2.1), which is without bias, where 1 − (1 − c/n)^k is not:

    pass@k = mean over problems of 1 − C(n − c, k) / C(n, k)        n samples, c of them right
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from transformers import PreTrainedTokenizerBase

from components.shared.generation.requests import Decoding
from components.shared.runtime.errors import ConfigError
from components.shared.tasks.graders import grade
from components.shared.tasks.item import Item, Split

from .answers import evaluating
from .statistics import wilson
from .suites import Score, as_asked, drawn_items, score_of
from .writing import written_answers

TOP_P = 0.95
"""Nucleus of the samples, as in the paper."""
LIMIT = 512
"""Tokens of a program whose item says nothing."""


class Sampling(NamedTuple):
    """How pass@k is estimated.

    :param samples: of each problem.
    :param ks: of pass@k, each at most `samples`; the first is the score.
    :param temperature: 0 is greedy, for one sample.
    """

    samples: int = 1
    ks: tuple[int, ...] = (1,)
    temperature: float = 0.0

    def __str__(self) -> str:
        """What tells scores of one sampling from those of another."""
        return f"pass@{','.join(map(str, self.ks))} of {self.samples} at {self.temperature:g}"

    def check(self, suite: str, items: Sequence[Item]) -> None:
        """Refuse what would be no estimate.

        :raises ConfigError: a k that is more than the samples, several greedy samples, or items that no tests grade.
        """
        for k in self.ks or (0,):
            pass_at_k(self.samples, 0, k)
        if self.samples > 1 and not self.temperature:
            raise ConfigError(
                f"{self.samples} greedy samples are one and the same", where="temperature",
                fix="give one above 0: 0.2 for pass@1, 0.8 for pass@100 (Chen et al. 2021)",
            )  # fmt: skip
        if other := next((item for item in items if item.grader != "code"), None):
            raise ConfigError(
                "pass@k is for programs that tests grade", where=f"suite {suite}",
                why=f"its items are graded by {other.grader!r}",
                fix="name files of code alone, such as --suite file:HumanEval.jsonl.gz, or leave --samples out",
            )  # fmt: skip


def pass_at_k(samples: int, right: int, k: int) -> float:
    """The estimate for one problem, as a product: the binomials of large n are no floats.

    :param samples: n.
    :param right: c, how many of them pass.
    :raises ConfigError: fewer samples than k.
    """
    if not 1 <= k <= samples:
        raise ConfigError(
            f"pass@{k} of {samples} samples", where="pass@k", fix=f"draw {k} samples a problem at least"
        )
    if samples - right < k:
        return 1.0
    return float(1.0 - np.prod(1.0 - k / np.arange(samples - right + 1, samples + 1)))


def passes(items: Sequence[Item], answers: Sequence[str]) -> np.ndarray:
    """(n,) bool: whether each answer passes the tests of its item; as many at once as there are processors."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return np.array(list(pool.map(grade, items, answers)), dtype=np.float64) == 1.0


def right_samples(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    items: Sequence[Item],
    sampling: Sampling,
    *,
    seed: int = 0,
    seen: Callable[[int], None] | None = None,
) -> np.ndarray:
    """(n,) int: how many of its samples pass, of each problem.

    :param seed: of the first sample; the others count on from it.
    :param seen: is told how many more samples are written.
    """
    asked = [item for item in items for _ in range(sampling.samples)]
    decoding = Decoding(sampling.temperature, top_p=TOP_P) if sampling.temperature else Decoding()
    with evaluating(model):
        answers = written_answers(
            model, tokenizer, asked, limit=LIMIT, decoding=decoding, seed=seed, seen=seen
        )
    return passes(asked, answers).reshape(len(items), sampling.samples).sum(1)


def estimates(right: np.ndarray, sampling: Sampling) -> dict[int, np.ndarray]:
    """By k, the (n,) estimates of the problems, by how many of its samples pass."""
    return {k: np.array([pass_at_k(sampling.samples, int(c), k) for c in right]) for k in sampling.ks}


def with_interval(of_problems: np.ndarray) -> tuple[float, float, float]:
    """The mean over problems with its 95% interval (Wilson's; values between 0 and 1 spread less than it allows for).

    :returns: (mean, low, high).
    """
    rate = float(of_problems.mean())
    return rate, *wilson(rate, of_problems.size)


def code_scores(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    items: Sequence[Item],
    sampling: Sampling,
    *,
    seed: int = 0,
) -> dict[int, tuple[float, float, float]]:
    """pass@k of a model, each with its 95% interval over problems: k → (pass@k, low, high)."""
    right = right_samples(model, tokenizer, items, sampling, seed=seed)
    return {k: with_interval(values) for k, values in estimates(right, sampling).items()}


def sampled_score(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    suite: str,
    sampling: Sampling,
    *,
    split: Split,
    items: int,
    seed: int,
    seeds: int,
    shots: int = 0,
    seen: Callable[[int], None] | None = None,
) -> Score:
    """The score of a suite of programs: pass@k for the first k; `detail` has all of them with their intervals.

    :param shots: as in `suites.evaluate`, and the rest likewise.
    """
    drawn = drawn_items(suite, split=split, items=items, seed=seed, seeds=seeds)
    own, numbers = [item for item, _ in drawn], np.array([number for _, number in drawn])
    asked = as_asked(own, suite=suite, tokenizer=tokenizer, shots=shots, seed=seed)
    right = right_samples(model, tokenizer, asked, sampling, seed=seed, seen=seen)
    values = estimates(right, sampling)
    found = score_of(own, values[sampling.ks[0]], numbers)
    detail = found.detail
    for k, of_problems in values.items():
        names = (f"pass_at_{k}", f"pass_at_{k}_low", f"pass_at_{k}_high")
        detail |= dict(zip(names, with_interval(of_problems), strict=True))
    return dataclasses.replace(found, detail=detail)
