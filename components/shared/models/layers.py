"""A model without some of its layers, for as long as a block lasts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import nn
from transformers import PreTrainedModel


def decoder_layers(model: PreTrainedModel) -> nn.ModuleList:
    """The list of the model's blocks.

    :raises ValueError: there is none of config.num_hidden_layers blocks.
    """
    count = model.config.get_text_config().num_hidden_layers
    for module in model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return module
    raise ValueError(f"{type(model).__name__} has no list of {count} layers")


@contextmanager
def skipping(model: PreTrainedModel, skip: Sequence[int]) -> Iterator[None]:
    """Inside the block the layers `skip` pass on what they are given; they are not computed and cache nothing.

    :raises ValueError: one of them is the first, or not there.
    """
    layers: Sequence[nn.Module] = list(decoder_layers(model)) if skip else []
    refused = [number for number in skip if not 0 < number < len(layers)]
    if refused:
        raise ValueError(f"layers 1 to {len(layers) - 1} can be left out, not {', '.join(map(str, refused))}")
    skipped = [layers[number] for number in skip]
    try:
        for layer in skipped:
            layer.forward = lambda hidden, *_, **__: hidden
        yield
    finally:
        for layer in skipped:
            layer.__dict__.pop("forward", None)
