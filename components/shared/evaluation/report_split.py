"""The last thing a phase does: it scores its output on the report split, which nothing before has seen."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Any

from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from components.shared.runtime.measured import STAND_INS, stand_ins_of, suites_of
from components.shared.runtime.phase import Run
from components.shared.runtime.start import BASE_MEASURED
from components.shared.runtime.store import local_copy
from components.shared.tasks.tokenizer import byte_tokenizer

from .answers import AnswerFunction
from .chat import chat_score
from .costs import agent_times, times
from .lookup import Lookup
from .perplexity import file_score
from .suites import Score, evaluate, shots_for, suite_items
from .thinking import answers_with_thoughts

LOOKUP = "lookup"
"""In a manifest's `extra`: suite → what the nearest train item's answer scores on the items of the report split."""

DIGITS = 5
"""Of a stand-in's figures, as they are recorded: rounding of sums is no part of an artifact."""


def score(
    run: Run,
    agent: nn.Module | AnswerFunction,
    tokenizer: PreTrainedTokenizerBase,
    *,
    model: nn.Module | None = None,
) -> dict[str, Score]:
    """Score the phase's output on the suites of the report split, into `run.scores` too, and stand-ins, where they are set.

    How long a right answer of efficiency takes goes into `run.timing`.

    :param model: of an agent that is a function: what predicts the held-out text.
    """
    settings = run.config.evaluation
    computes = agent if isinstance(agent, nn.Module) else model
    scores = _scores(run, agent, tokenizer, settings.suites, "score", computes)
    run.scores = dict(scores)
    if computes is not None and "efficiency" in scores:
        items = suite_items(
            "efficiency", split="report", items=settings.items, seed=run.seed, seeds=settings.seeds
        )
        rate = scores["efficiency"].score
        run.timing |= times(computes, tokenizer, items, rate)
        if not isinstance(agent, nn.Module):
            run.timing |= agent_times(agent, items, rate)
    run.extra[LOOKUP] = _lookup(run, scores)
    if found := stand_ins(run, agent, tokenizer, model):
        run.extra[STAND_INS] = found
    return scores


def _lookup(run: Run, scores: Mapping[str, Score]) -> dict[str, Any]:
    """The baseline by lookup: that of an input that was asked the same items, so that a run measures it once."""
    for artifact in chain.from_iterable(run.inputs.values()):
        known = artifact.manifest.extra.get(LOOKUP, {})
        if all(known.get(suite, {}).get("asked") == score.asked for suite, score in scores.items()):
            return {suite: known[suite] for suite in scores}
    found = evaluate(  # without examples, which are what it looks up anyway
        Lookup(seed=run.seed),
        byte_tokenizer(),
        split="report",
        items=run.config.evaluation.items,
        seed=run.seed,
        seeds=run.config.evaluation.seeds,
        suites=scores,
    )
    return {
        suite: {**score.as_dict(), "detail": {}, "asked": scores[suite].asked}
        for suite, score in found.items()
    }


def score_base(run: Run, model: nn.Module, tokenizer: PreTrainedTokenizerBase) -> None:
    """Score the base model that the pipeline was given, of which its folder says nothing: what `start/score/…` means."""
    scores = _scores(run, model, tokenizer, run.config.evaluation.suites, "score, base model", model)
    found = {STAND_INS: stand_ins(run, model, tokenizer)}
    plain = {suite: each.as_dict() for suite, each in scores.items()}
    run.extra[BASE_MEASURED] = {**suites_of(plain), **stand_ins_of(found)}


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

    :returns: metrics: the score of the suite reasoning with and without thinking; none for a model without a talk head,
        or where reasoning is not asked.
    """
    if not getattr(model.config, "thoughts", None) or "reasoning" not in run.scores:
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
    model: nn.Module | None = None,
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
            seeds=settings.seeds,
            batch=settings.batch,
            shots=shots_for(suite, tokenizer, settings.shots),
            suites=[suite],
            model=model,
        )
        run.progress.step()
    run.progress.done()
    return scores
