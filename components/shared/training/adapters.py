"""LoRA and QLoRA by peft (Hu et al., arXiv 2106.09685; Dettmers et al., arXiv 2305.14314): train low-rank changes alone.

Every linear layer but the output head gets W + B·A, and B and A are all that learns. QLoRA computes W in 4 bits (NF4); what
the change is added to at the end are the weights as they were, kept in host memory, so that the 4 bits cost no precision of
the artifact.
"""

from __future__ import annotations

import importlib
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from components.shared.runtime.errors import ConfigError, InputError

from .settings import EngineSettings

NAME = "default"
"""What peft calls an adapter that has no name."""


class LowRankChange:
    """The change of a model's linear layers, on it until `merge`.

    :param model: changed in place; its other parameters are frozen.
    :param engine: adapter and its rank.
    :raises ConfigError: a package is missing.
    :raises InputError: the model is ternary or coded: its layers' weights are no plain numbers to add to.
    """

    def __init__(self, model: PreTrainedModel, engine: EngineSettings) -> None:
        peft = _package("peft", "adapters")
        if getattr(model.config, "storage", None):
            raise InputError(
                f"adapter {engine.adapter} on a model whose layers are coded",
                why="a change added to a layer's output cannot be merged into weights of few bits",
                fix="set engine.adapter: none, or train before phase bitnet",
            )
        self.originals: dict[str, Tensor] = {}
        if engine.adapter == "qlora":
            self._quantise(model)
        config = peft.LoraConfig(
            r=engine.adapter_rank, lora_alpha=engine.adapter_rank, target_modules="all-linear"
        )
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
            base = layer.get_base_layer()
            change = layer.get_delta_weight(NAME)
            if path in self.originals:
                weight = self.originals[path]
                plain = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
                plain.bias = base.bias
                plain.weight = nn.Parameter(weight.to(change.device) + change.to(weight.dtype))
                base = plain
            else:
                base.weight.add_(change)
            _put(model, path, base)
        for attribute in ("peft_config", "is_loaded_in_4bit", "_hf_peft_config_loaded"):
            model.__dict__.pop(attribute, None)
        model.requires_grad_(True)

    @torch.no_grad()
    def _quantise(self, model: PreTrainedModel) -> None:
        """Put layers of 4 bits in the linear layers' place."""
        bitsandbytes = _package("bitsandbytes", "adapters")
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
            _put(model, path, small.to(module.weight.device))
        flagged: Any = model
        flagged.is_loaded_in_4bit = True  # what peft asks for


def put_on(model: PreTrainedModel, engine: EngineSettings) -> LowRankChange | None:
    """The change that the settings ask for; None where they ask for none."""
    return None if engine.adapter == "none" else LowRankChange(model, engine)


def _put(model: nn.Module, path: str, module: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    setattr(model.get_submodule(parent), name, module)


def _package(name: str, extra: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ConfigError(
            f"the package {name} is not installed",
            where="engine.adapter",
            why=str(error),
            fix=f"pip install 'agent-forge[{extra}]', or set engine.adapter: none",
        ) from error
