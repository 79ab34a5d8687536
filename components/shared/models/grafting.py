"""Variants of a given base: memory and refinement put onto any causal language model, and what is common to several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import nn
from transformers import PreTrainedModel

from components.shared.runtime.errors import ConfigError

from .build import MODULES, with_changes
from .loading import wrap
from .remote_code.grafts import decoder_layers
from .remote_code.modeling_wrapped import ForgeWrapped

Shape = Mapping[str, Any]
"""The numbers of a module, as `ForgeWrappedConfig.memory` and `.refinement` have them."""


def memory_shape(model: PreTrainedModel, *, layer: int | None, size: int, heads: int, chunk: int) -> Shape:
    """A memory in front of a layer.

    :param layer: counted from 0; None: the middle one.
    :param size: width of the memory, over all heads.
    :param chunk: tokens between two updates.
    :raises ConfigError: the model has no such layer, or the numbers do not divide.
    """
    count = len(_layers(model))
    place = count // 2 if layer is None else layer
    if not 0 <= place < count:
        raise ConfigError(f"there is no layer {place}", where="memory_layer", fix=f"give 0 to {count - 1}")
    if size % heads:
        raise ConfigError(
            f"a memory of {size} has no {heads} heads", where="memory_size", fix="give a multiple"
        )
    return {"layer": place, "size": size, "heads": heads, "chunk": chunk}


def refinement_shape(*, width: int, size: int, heads: int, steps: int, prior: float, beta: float) -> Shape:
    """A refinement behind the last layer.

    :param width: of its block, which reads and writes the model's states through two thin matrices.
    :param size: inside the block's SwiGLU.
    :param prior: halting probability of the geometric prior; beta: the weight of its KL.
    :raises ConfigError: the numbers do not divide.
    """
    if width % (2 * heads):
        raise ConfigError(
            f"a block of width {width} has no {heads} heads",
            where="refinement_width",
            fix="give a multiple of 2 × heads",
        )
    return {"width": width, "size": size, "heads": heads, "steps": steps, "prior": prior, "beta": beta}


def graft(
    model: PreTrainedModel, *, memory: Shape | None = None, refinement: Shape | None = None, seed: int = 0
) -> ForgeWrapped:
    """The same function, bit for bit, in a model with the named modules, their gates exactly 0.

    The model's weights are shared, not copied, and the modules are hung into it: it is the wrapped model's from now on.
    Modules that it has stay as they are. A module starts from the same weights whatever else is added.

    :param model: any causal LM of transformers, plain or wrapped.
    :param seed: of the added modules' weights.
    :raises ConfigError: the model has no list of layers, has a module of another shape already, or is stored as codes.
    """
    wrapped = model if isinstance(model, ForgeWrapped) else wrap(model)
    if wrapped.config.storage:
        raise ConfigError(
            "modules are put onto models whose weights are not codes",
            where="graft",
            fix="give it as it was before",
        )
    before = {name: getattr(wrapped.config, name) for name in MODULES}
    asked = {"memory": memory, "refinement": refinement}
    for name, shape in asked.items():
        if before[name] and shape and dict(shape) != before[name]:
            raise ConfigError(
                f"the model has a {name} of another shape",
                where=name,
                why=f"{before[name]}",
                fix="give that shape",
            )
    shapes = {name: before[name] or (dict(shape) if shape else None) for name, shape in asked.items()}
    added = [name for name in MODULES if shapes[name] and not before[name]]
    if not added:
        return wrapped
    inner = wrapped.inner
    if any(before.values()):
        _detach(inner)
    try:
        with torch.random.fork_rng(devices=[]):
            larger = ForgeWrapped(with_changes(wrapped.config, **shapes), inner=inner)
    except ValueError as error:
        raise ConfigError(
            "modules cannot be put onto this model", where=type(inner).__name__, why=str(error)
        ) from error
    for name in MODULES:
        module = getattr(larger, name, None)
        if module is None:
            continue
        if name in added:
            _start(module, seed)
        else:
            module.load_state_dict(getattr(wrapped, name).state_dict())
        module.to(device=inner.device, dtype=inner.dtype)
    for name, child in wrapped.named_children():
        if name not in ("inner", *MODULES):
            setattr(larger, name, child)
    larger.generation_config = wrapped.generation_config
    return larger.train(wrapped.training)


def union_shapes(models: Sequence[PreTrainedModel]) -> dict[str, Shape | None]:
    """Of each module the shape that any of these models has it in, None where none has.

    :raises ConfigError: two have it in different shapes.
    """
    shapes: dict[str, Shape | None] = dict.fromkeys(MODULES)
    for number, model in enumerate(models):
        for name in MODULES:
            own = getattr(model.config, name) if isinstance(model, ForgeWrapped) else None
            if own and shapes[name] and own != shapes[name]:
                raise ConfigError(
                    f"the models have a {name} of different shapes", where=f"model {number}",
                    why=f"{own}, and before {shapes[name]}", fix="merge models of one geometry",
                )  # fmt: skip
            shapes[name] = own or shapes[name]
    return shapes


def is_grafted(model: PreTrainedModel) -> bool:
    """Whether a model of another family has a module of ours."""
    return isinstance(model, ForgeWrapped) and any(getattr(model.config, name) for name in MODULES)


def _layers(model: PreTrainedModel) -> nn.ModuleList:
    try:
        return cast(nn.ModuleList, decoder_layers(model))
    except ValueError as error:
        raise ConfigError(
            "modules cannot be put onto this model", where=type(model).__name__, why=str(error)
        ) from error


def _detach(inner: PreTrainedModel) -> None:
    """Take the hooks of modules off that a new wrapped model hangs in anew."""
    for module in (inner.base_model, *_layers(inner)):
        for hooks in (module._forward_pre_hooks, module._forward_hooks):
            for key in [key for key, hook in hooks.items() if _is_ours(hook)]:
                del hooks[key]


def _is_ours(hook: Any) -> bool:
    return getattr(getattr(hook, "func", hook), "__module__", "").rpartition(".")[2] == "grafts"


def _start(module: nn.Module, seed: int) -> None:
    """Linear layers N(0, 1/fan_in), as in a Cognate; the gate stays closed."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, nn.Linear):
                part.weight.copy_(
                    torch.randn(part.weight.shape, generator=generator) * part.in_features**-0.5
                )
                if part.bias is not None:
                    part.bias.zero_()
        for part in module.modules():
            if (start_closed := getattr(part, "start_closed", None)) is not None:
                start_closed()
