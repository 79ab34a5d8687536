"""The low-rank changes that settings ask for: LoRA (low_rank.py), and QLoRA by peft (Dettmers et al., arXiv 2305.14314).

Every linear layer but the output head gets W + B·A, and B and A are all that learns. LoRA's sum goes through the quantiser
of a ternary layer. QLoRA computes W in 4 bits (NF4); what the change is added to at the end are the weights as they were,
kept in host memory, so that the 4 bits cost no precision of the artifact.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from components.shared.models.remote_code.coded import Coded
from components.shared.models.remote_code.ternary import BitLinear
from components.shared.runtime.errors import ConfigError, InputError

from .low_rank import adapt, merge
from .settings import EngineSettings

NAME = "default"
"""What peft calls an adapter that has no name."""
Merge = Callable[[PreTrainedModel], None]
"""Adds the change to the weights of the model that it was put on, or of a copy of it, and makes it a plain one again."""


def put_on(model: PreTrainedModel, engine: EngineSettings, generator: torch.Generator) -> Merge | None:
    """Put the changes that the settings ask for on the model, in place; its other parameters are frozen.

    :param generator: draws where they begin; the same on every rank.
    :returns: what merges them; None where the settings ask for none.
    :raises ConfigError: a package is missing.
    :raises InputError: the model's layers hold codes, or no such change can be put on them.
    """
    if engine.adapter == "none":
        return None
    _refuse_codes(model, engine)
    if engine.adapter == "qlora":
        return FourBits(model, engine.adapter_rank, generator).merge
    adapt(model, engine.adapter_rank, generator)
    return merge


class FourBits:
    """QLoRA on a model until `merge`.

    :param model: changed in place; its other parameters are frozen.
    :param generator: draws what seeds peft's own numbers.
    :raises ConfigError: a package is missing.
    """

    def __init__(self, model: PreTrainedModel, rank: int, generator: torch.Generator) -> None:
        peft = _package("peft")
        self.originals: dict[str, Tensor] = {}
        self._quantise(model)
        config = peft.LoraConfig(r=rank, lora_alpha=rank, target_modules="all-linear")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(torch.randint(2**31, (), generator=generator)))
            peft.get_peft_model(model, config)

    @torch.no_grad()
    def merge(self, model: PreTrainedModel) -> None:
        """Add the change to the weights; the model is as it was before, but for their values.

        :param model: the one that was changed, or a copy of it.
        """
        from peft.tuners.lora import LoraLayer

        changed: list[tuple[str, Any]] = [
            (path, layer) for path, layer in model.named_modules() if isinstance(layer, LoraLayer)
        ]
        for path, layer in changed:
            change, weight = layer.get_delta_weight(NAME), self.originals[path]
            plain = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
            plain.bias = layer.get_base_layer().bias
            plain.weight = nn.Parameter(weight.to(change.device) + change.to(weight.dtype))
            model.set_submodule(path, plain)
        for attribute in ("peft_config", "is_loaded_in_4bit", "_hf_peft_config_loaded"):
            model.__dict__.pop(attribute, None)
        model.requires_grad_(True)

    @torch.no_grad()
    def _quantise(self, model: PreTrainedModel) -> None:
        """Put layers of 4 bits in the linear layers' place."""
        bitsandbytes = _package("bitsandbytes")
        head = model.get_output_embeddings()
        for path, module in list(model.named_modules()):
            if type(module) is not nn.Linear or module is head:
                continue
            self.originals[path] = module.weight.detach().cpu()
            small = bitsandbytes.nn.Linear4bit(
                module.in_features,
                module.out_features,
                bias=module.bias is not None,
                compute_dtype=module.weight.dtype,
                quant_type="nf4",
            )
            small.weight = bitsandbytes.nn.Params4bit(
                module.weight.detach().clone(), requires_grad=False, quant_type="nf4"
            )
            small.bias = module.bias
            model.set_submodule(path, small.to(module.weight.device))
        flagged: Any = model
        flagged.is_loaded_in_4bit = True  # what peft asks for


def _refuse_codes(model: PreTrainedModel, engine: EngineSettings) -> None:
    """Look at what the layers are.

    :raises InputError: they are of fewer bits already than what the change would be put on.
    """
    no_place = (Coded, BitLinear) if engine.adapter == "qlora" else (Coded,)
    for path, module in model.named_modules():
        if isinstance(module, no_place):
            ternary = isinstance(module, BitLinear)
            raise InputError(
                f"adapter {engine.adapter} on a model whose layers are {'ternary' if ternary else 'coded'}",
                where=path,
                why="it is of fewer than 4 bits already, and is trained through its own quantiser"
                if ternary
                else "a change cannot be merged into a code",
                fix="set engine.adapter: lora"
                if ternary
                else "give the model as it was before compression, or set engine.adapter: none",
            )


def _package(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ConfigError(
            f"the package {name} is not installed",
            where="engine.adapter",
            why=str(error),
            fix="pip install 'agent-forge[adapters]', or set engine.adapter: lora",
        ) from error
