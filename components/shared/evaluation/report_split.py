"""The last thing a phase does: it scores its output on the report split, which nothing before has seen."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import partial
from typing import Any

from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from components.shared.runtime.phase import Run
from components.shared.runtime.store import local_copy

from .answers import AnswerFunction
from .chat import chat_score
from .perplexity import file_score
from .suites import SUITES, Score, evaluate
from .thinking import answers_with_thoughts

DIGITS = 5
"""Of a stand-in's figures, as they are recorded: rounding of sums is no part of an artifact."""


def score(
    run: Run,
    agent: nn.Module | AnswerFunction,
    tokenizer: PreTrainedTokenizerBase,
    *,
    model: nn.Module | None = None,
) -> dict[str, Score]:
    """Score the phase's output on all suites of the report split, into `run.scores` too, and stand-ins, where they are set.

    :param model: of an agent that is a function: what predicts the held-out text.
    """
    scores = _scores(run, agent, tokenizer, SUITES, "score")
    run.scores = dict(scores)
    if found := stand_ins(run, agent, tokenizer, model):
        run.extra["stand_ins"] = found
    return scores


def stand_ins(
    run: Run,
    agent: nn.Module | AnswerFunction,
    tokenizer: PreTrainedTokenizerBase,
    model: nn.Module | None = None,
) -> dict[str, Any]:
    """What stands in for suites in the model's own language, as far as `evaluation.text` and `evaluation.chat` ask for it.

    :returns: perplexity, bits_per_byte, tokens and text (its SHA-256); chat, as `chat_score` gives it.
    :raises InputError: the text cannot be read, or is too short.
    """
    settings = run.config.evaluation
    predictor = agent if isinstance(agent, nn.Module) else model
    found: dict[str, Any] = {}
    if settings.text and predictor is not None:
        run.progress.start("score, text", 1)
        path = local_copy.local_file(settings.text)
        text = file_score(predictor, tokenizer, path, most=settings.text_tokens)
        found |= {name: round(value, DIGITS) for name, value in text.as_dict().items()}
        found["text"] = hashlib.sha256(path.read_bytes()).hexdigest()
        run.progress.step()
        run.progress.done()
    if settings.chat:
        run.progress.start("score, chat", 1)
        found["chat"] = chat_score(agent, tokenizer)
        run.progress.step()
        run.progress.done()
    return found


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
