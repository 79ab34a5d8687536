"""What a right answer costs: tokens, floating-point operations and bytes of weights, counted; and time, measured.

Of a model one forward over question and answer is counted, as it is scored. An agent is let answer: all that passes through
its model for that is counted, call after call, thoughts and branches included. What is counted is the same on every machine
and belongs to a score. What is measured is not, and belongs to a manifest's `timing`.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import PreTrainedTokenizerBase

from components.shared.tasks.batches import encode, without_scratch
from components.shared.tasks.item import Item

from .answers import evaluating
from .speed import speed

COUNTED = 16
"""Items that are counted: of a model the others cost as much a token, of an agent as much an item."""
TIMED = 32
"""Items that are timed."""


def costs(
    model: nn.Module, tokenizer: PreTrainedTokenizerBase, items: Sequence[Item], right: np.ndarray
) -> dict[str, float]:
    """What the model spends on the items, a right answer; with none right, on all of them together.

    :param right: (n,) whether, or how far, each answer is right.
    :returns: tokens_per_right (question and answer), flops_per_right (matrix products and attention of one pass, two
        operations a multiplication and addition, output layer included; kernels of our own are not seen), bytes_per_right
        (weights and buffers as they are in memory, each read once a token).
    """
    plain = [without_scratch(item) for item in items]
    tokens: float = sum(int(encode([item], tokenizer).attention_mask.sum()) for item in plain)
    batch = encode(plain[:COUNTED], tokenizer).to(next(model.parameters()).device)
    counter = FlopCounterMode(display=False)
    with evaluating(model), counter:
        model(batch.input_ids, attention_mask=batch.attention_mask)
    return _a_right_answer(model, tokens, counter.get_total_flops() / batch.input_ids.numel() * tokens, right)


def agent_costs(
    answers: Callable[[Sequence[Item]], list[str]], model: nn.Module, items: Sequence[Item], right: np.ndarray
) -> dict[str, float]:
    """The same of an agent: what its model reads and writes for items that are asked one by one.

    :param answers: the agent; one that remembers what it was asked counts as what it wraps.
    :param model: that all its calls go through.
    """
    asked = [without_scratch(item) for item in items[:: max(1, len(items) // COUNTED)][:COUNTED]]
    passed = 0

    def count(_: nn.Module, ids: tuple[torch.Tensor, ...]) -> None:
        nonlocal passed
        passed += ids[0].numel()

    counter = FlopCounterMode(display=False)
    watched = model.get_input_embeddings().register_forward_pre_hook(count)  # type: ignore[operator]
    try:
        with evaluating(model), counter:
            for item in asked:
                inspect.unwrap(answers)([item])
    finally:
        watched.remove()
    share = len(items) / len(asked)
    return _a_right_answer(model, passed * share, counter.get_total_flops() * share, right)


def _a_right_answer(model: nn.Module, tokens: float, flops: float, right: np.ndarray) -> dict[str, float]:
    tensors: list[torch.Tensor] = [*model.parameters(), *model.buffers()]
    weights = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    answers = max(float(right.sum()), 1.0)
    return {
        "tokens_per_right": tokens / answers,
        "flops_per_right": flops / answers,
        "bytes_per_right": weights * tokens / answers,
    }


def agent_times(
    answers: Callable[[Sequence[Item]], list[str]], items: Sequence[Item], rate: float
) -> dict[str, float]:
    """What `times` says, of an agent that is let answer; tokens a second are its model's matter."""
    asked = [without_scratch(item) for item in items[:TIMED]]

    def seconds(some: Sequence[Item]) -> float:
        start = time.perf_counter()
        inspect.unwrap(answers)(some)
        return time.perf_counter() - start

    seconds(asked[:1])  # the first call decodes weights and builds tables
    return {
        "latency_seconds": seconds(asked[:1]),
        "seconds_per_right": seconds(asked) / max(rate * len(asked), 1.0),
    }


def times(
    model: nn.Module, tokenizer: PreTrainedTokenizerBase, items: Sequence[Item], rate: float
) -> dict[str, float]:
    """What a right answer takes here and now, for `timing`.

    :param rate: share of right answers.
    :returns: latency_seconds (an item alone), tokens_per_second, seconds_per_right (a whole batch, none right: of all).
    """
    asked = [without_scratch(item) for item in items[:TIMED]]
    found = speed(model, tokenizer, asked, repeats=1)
    tokens = sum(int(encode([item], tokenizer).attention_mask.sum()) for item in asked)
    right = max(rate * len(asked), 1.0)
    return {
        "latency_seconds": found["latency_seconds"],
        "tokens_per_second": found["tokens_per_second"],
        "seconds_per_right": tokens / found["tokens_per_second"] / right,
    }
