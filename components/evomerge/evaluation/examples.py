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

from .calibration import Examples
from .judge import Answers


def best_parent(answers: Sequence[Answers]) -> np.ndarray:
    """(n,) int: for every item the parent with the lowest loss a token, the first of equals."""
    return np.argmin([one.nll / one.tokens for one in answers], axis=0)


def examples(
    items: Sequence[Item],
    teachers: np.ndarray,
    parents: int,
    tokenizer: PreTrainedTokenizerBase,
    device: torch.device | str,
) -> list[Examples]:
    """Of each parent the items that it teaches (maybe none), as rows of one length; padding does not count."""
    rows = encode(items, tokenizer).to(device)
    found = []
    for parent in range(parents):
        mine = torch.from_numpy(np.flatnonzero(teachers == parent)).to(device)
        mask = rows.attention_mask[mine]
        found.append(Examples({"input_ids": rows.input_ids[mine], "attention_mask": mask}, mask.bool()))
    return found
