"""Rows that hold several documents, read so that none sees another.

A packed batch says in its attention mask which document a token is of, from 1 on; 0 is padding. Attention stays
inside of a document and positions begin anew with each, so that a document's loss is that of the document alone
(Krell et al., arXiv 2107.02027).

    a Cognate                    a 4-D mask and position ids
    a model of transformers      position ids alone: its masks are made of them, for any attention (block masks, and the
                                 lengths that FlashAttention takes)
    a model with a state that runs over a row (a memory), or modules between its layers: each document is a row of its own
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from components.shared.models.remote_code.modeling_wrapped import ForgeWrapped
from components.shared.tasks.batches import IGNORED, Batch


def is_packed(batch: Batch) -> bool:
    """Whether a row holds more than one document."""
    return bool((batch.attention_mask > 1).any())


def positions_of(documents: Tensor) -> Tensor:
    """(B, T) numbers of documents → (B, T) places within them, from 0."""
    place = torch.arange(documents.shape[1], device=documents.device).expand_as(documents)
    begins = torch.ones_like(documents, dtype=torch.bool)
    begins[:, 1:] = documents[:, 1:] != documents[:, :-1]
    return place - torch.where(begins, place, 0).cummax(dim=1).values


def mask_of(documents: Tensor) -> Tensor:
    """(B, T) numbers of documents → (B, 1, T, T) bool: which columns a row of the mask may attend to."""
    same = documents[:, :, None] == documents[:, None, :]
    return same.tril()[:, None]


def apart(batch: Batch) -> Batch:
    """A packed batch with a row for each document, padded on the right."""
    rows, columns = batch.attention_mask.nonzero(as_tuple=True)
    documents, place = batch.attention_mask[rows, columns], positions_of(batch.attention_mask)[rows, columns]
    row = (place == 0).cumsum(0) - 1
    shape = int(row[-1]) + 1, int(place.max()) + 1
    input_ids = batch.input_ids.new_zeros(shape)
    labels, mask = torch.full_like(input_ids, IGNORED), torch.zeros_like(input_ids)
    input_ids[row, place] = batch.input_ids[rows, columns]
    labels[row, place] = batch.labels[rows, columns]
    mask[row, place] = torch.ones_like(documents)
    return Batch(input_ids, labels, mask)


def readable(model: nn.Module, lm: Any, batch: Batch) -> tuple[Batch, dict[str, Any]]:
    """A batch as a model is to read it, and what to tell the model beside the tokens: nothing where it is not packed.

    :param lm: the causal language model inside of `model`.
    """
    if not is_packed(batch):
        return batch, {}
    if not _separates(model, lm):
        return apart(batch), {}
    options = {"position_ids": positions_of(batch.attention_mask)}
    if lm.config.model_type == "cognate":
        options["attention_mask"] = mask_of(batch.attention_mask)
    return batch, options


def _separates(model: nn.Module, lm: Any) -> bool:
    """Whether the network keeps documents apart when it is told where each begins."""
    if lm.config.model_type == "cognate":
        return not lm.config.memory
    grafted = any(
        isinstance(each, ForgeWrapped) and (each.config.memory or each.config.refinement)
        for each in model.modules()
    )
    # transformers' own word for models whose attention goes through its masking functions, and for those with a state
    return not grafted and lm._supports_attention_backend and not lm._is_stateful
