"""How fast and how large a model is here and now.

These are timings: they differ from run to run and machine to machine, so they belong to a manifest's `timing` and never
to a digest.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from components.shared.tasks.batches import Batch
from components.shared.tasks.item import Item
from components.shared.training.head import hidden_states

from .answers import batches, evaluating


def speed(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    items: Sequence[Item],
    *,
    batch: int = 64,
    repeats: int = 3,
) -> dict[str, float]:
    """Best of `repeats` passes over `items`.

    :returns: tokens_per_second (read up to the head, padding not counted, whole batches), latency_seconds (one item
        alone, one forward),
        weight_bytes (parameters and buffers as they are in memory).
    """
    all_rows = [rows.to(next(model.parameters()).device) for _, rows in batches(items, tokenizer, batch)]
    single = [rows.to(all_rows[0].input_ids.device) for _, rows in batches(items[:1], tokenizer, 1)]
    tokens = sum(int(rows.attention_mask.sum()) for rows in all_rows)

    def seconds(batches: list[Batch]) -> float:
        start = time.perf_counter()
        for rows in batches:
            hidden_states(model, rows.input_ids, rows.attention_mask).last[0, 0, 0].item()
        return time.perf_counter() - start

    with evaluating(model):
        seconds(single)  # the first call decodes weights and builds tables
        whole = min(seconds(all_rows) for _ in range(repeats))
        alone = min(seconds(single) for _ in range(repeats))
    tensors: list[torch.Tensor] = [*model.parameters(), *model.buffers()]
    return {
        "tokens_per_second": tokens / whole,
        "latency_seconds": alone,
        "weight_bytes": float(sum(tensor.numel() * tensor.element_size() for tensor in tensors)),
    }
