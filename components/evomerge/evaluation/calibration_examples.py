"""On what a merged model is calibrated: items of the train split, each taught by the parent that answers it best.

FeatCal (arXiv 2605.13030) calibrates on a few examples of each parent's task. Parents that were trained on mixtures
have no task of their own; who gives the right answer the highest probability is the one to learn an item from.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from components.shared.tasks.batches import encode
from components.shared.tasks.item import Item

from .calibration import CalibrationExamples
from .item_scorer import AnswerScores


def best_parent(answers: Sequence[AnswerScores]) -> np.ndarray:
    """(n,) int: for every item the parent with the lowest loss a token, the first of equals."""
    return np.argmin([own.nll / own.tokens for own in answers], axis=0)


def calibration_examples(
    items: Sequence[Item],
    teachers: np.ndarray,
    parents: int,
    tokenizer: PreTrainedTokenizerBase,
    device: torch.device | str,
) -> list[CalibrationExamples]:
    """Of each parent the items that it teaches (maybe none), as rows of one length; padding does not count.

    :param items: n of them.
    :param teachers: (n,) int, of each item the parent that teaches it.
    :param parents: how many there are.
    :param device: where the rows go.
    """
    rows = encode(items, tokenizer).to(device)
    by_parent = []
    for parent in range(parents):
        mine = torch.from_numpy(np.flatnonzero(teachers == parent)).to(device)
        mask = rows.attention_mask[mine]
        by_parent.append(
            CalibrationExamples({"input_ids": rows.input_ids[mine], "attention_mask": mask}, mask.bool())
        )
    return by_parent
