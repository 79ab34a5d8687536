"""Which layers have a norm in front of them, and what stays in high precision: read off the model, not off its names."""

from __future__ import annotations

import re
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from components.shared.models.remote_code.coded import Coded
from components.shared.models.remote_code.ternary import BitLinear

PROBE = 16
"""Tokens of the pass in which the layers' inputs are looked at."""
UNNORMED = ("o_proj", "down_proj")
"""Names for layers that the pass does not reach, whose experts it does not reach either: a Cognate's modules behind closed
gates, which are not computed."""


def layer_of(path: str) -> str:
    """A path without the last number in it: the same for all experts of a layer."""
    return re.sub(r"\.\d+(?=\.\D*$)", ".*", path)


@torch.no_grad()
def unnormed(model: PreTrainedModel, paths: Iterable[str]) -> list[str]:
    """Those layers whose input no norm has made.

    In one short pass, a layer stands behind a norm if the largest row of its input is a row of what a norm gave out. That
    holds where a router has picked the rows, and in any architecture. An expert that no token of the pass reaches is as
    the others of its layer.

    :param model: in evaluation mode; every module whose class is called "…Norm" is a norm.
    :param paths: of linear layers.
    """
    normed: dict[int, list[Tensor]] = {}  # width → the rows that norms gave out
    behind: dict[str, bool] = {}

    def note(_: nn.Module, __: tuple[Tensor, ...], out: Tensor) -> None:
        normed.setdefault(out.shape[-1], []).append(out.reshape(-1, out.shape[-1]))

    def look(path: str, x: Tensor) -> None:
        if x.numel():
            x = x.reshape(-1, x.shape[-1])
            row = x[x.abs().sum(-1).argmax()]  # not one of zeros, as padding has
            behind[path] = any(bool((rows == row).all(-1).any()) for rows in normed.get(x.shape[-1], []))

    paths = list(paths)
    handles = [
        module.register_forward_hook(note)
        for module in model.modules()
        if type(module).__name__.endswith("Norm")
    ]
    handles += [
        model.get_submodule(path).register_forward_pre_hook(
            lambda _, inputs, path=path: look(path, inputs[0])
        )
        for path in paths
    ]
    try:
        ids = torch.arange(PROBE, device=model.device) % model.config.get_text_config().vocab_size
        model(input_ids=ids[None])
    finally:
        for handle in handles:
            handle.remove()
    of_layer = {layer_of(path): known for path, known in behind.items()}
    for path in paths:
        by_name = path.rpartition(".")[2] not in UNNORMED
        behind.setdefault(path, of_layer.get(layer_of(path), by_name))
    return [path for path in paths if not behind[path]]


def kept(model: PreTrainedModel) -> dict[str, str]:
    """What of a converted model is not ternary although it is a matrix or more: its name → why.

    Vectors (biases, gains of norms) are in high precision always.
    """
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    why: dict[str, str] = {}
    for path, module in model.named_modules():
        if isinstance(module, (BitLinear, Coded)):
            continue
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.ndim < 2:
                continue
            if module is head:
                reason = "output head"
            elif isinstance(module, nn.Embedding):
                reason = "embedding" if module is embedding else "embedding of positions"
            elif isinstance(module, nn.modules.conv._ConvNd):
                reason = "convolution"
            elif parameter.ndim > 2:
                reason = "experts that lie fused in a form that is not taken apart"
            elif isinstance(module, nn.Linear):
                reason = "router, gate, or head of thinking, memory or halting"
            else:
                reason = "router"
            why[f"{path}.{name}"] = reason
    return why
