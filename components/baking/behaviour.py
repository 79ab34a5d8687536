"""Does the model behave? Measured on what it says, never on a divergence: a closed KL can hide calls that do not parse."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from components.shared.evaluation.sampling import prompt_ids, sample_answers
from components.shared.tasks.behaviours import FAMILIES
from components.shared.tasks.item import Item


def say(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, items: Sequence[Item], limit: int
) -> list[str]:
    """Greedy answers to items, as they stand (with their instruction, if they have one)."""
    answers = sample_answers(
        model, prompt_ids(items, tokenizer), eos=tokenizer.eos_token_id, limit=limit, temperature=0.0
    )
    return [str(tokenizer.decode(ids, skip_special_tokens=True)) for ids in answers]


def exhibited(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    name: str,
    items: Sequence[Item],
    limit: int,
) -> np.ndarray:
    """(n,) bool: whether each answer is the behaviour's. Calls are compared by their syntax trees, as BFCL does."""
    said = say(model, tokenizer, items, limit)
    family = FAMILIES[name]
    return np.array([family.exhibits(text, item.answer) for text, item in zip(said, items, strict=True)])
