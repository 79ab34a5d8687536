"""The last thing a phase does: it scores its output on the report split, which nothing before has seen."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from components.shared.runtime.phase import Run

from .answers import AnswerFunction
from .suites import SUITES, Score, evaluate
from .thinking import answers_with_thoughts


def score(
    run: Run, agent: nn.Module | AnswerFunction, tokenizer: PreTrainedTokenizerBase
) -> dict[str, Score]:
    """Score the phase's output on all suites of the report split, into `run.scores` too."""
    scores = _scores(run, agent, tokenizer, SUITES, "score")
    run.scores = dict(scores)
    return scores


def score_thinking(run: Run, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> dict[str, float]:
    """How well a model with a talk head reasons when it thinks, into `run.extra`. Call `score` first.

    :returns: metrics: the score of the suite reasoning with and without thinking; none for a model without a talk head.
    """
    if not getattr(model.config, "thoughts", None):
        return {}
    thinker = partial(answers_with_thoughts, model, tokenizer)
    score = _scores(run, thinker, tokenizer, ["reasoning"], "score, thinking")["reasoning"]
    run.extra["thinking"] = {"reasoning": score.as_dict()}
    return {"thinking/reasoning": score.score, "plain/reasoning": run.scores["reasoning"].score}


def _scores(
    run: Run,
    agent: nn.Module | AnswerFunction,
    tokenizer: PreTrainedTokenizerBase,
    suites: Sequence[str],
    stage: str,
) -> dict[str, Score]:
    settings = run.config.evaluation
    scores: dict[str, Score] = {}
    run.progress.start(stage, len(suites))
    for suite in suites:
        scores |= evaluate(
            agent,
            tokenizer,
            split="report",
            items=settings.items,
            seed=run.seed,
            batch=settings.batch,
            suites=[suite],
        )
        run.progress.step()
    run.progress.done()
    return scores
