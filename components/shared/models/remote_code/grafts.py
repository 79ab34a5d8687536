"""A neural memory and a refinement between the layers of any causal language model of transformers.

They are the Cognate's modules (memory.py, refinement.py), put in by hooks, so that the model's own code and the names of
its tensors stay as they are: the memory in front of one of the layers, the refinement behind the last. Their gates are
exactly zero until they are trained: the function is the model's own, bit for bit.

What the modules must know beside the hidden states (which tokens are real, their positions, the cache) is noted when the
base model is entered. The cache gets places of its own for them behind those of the model's layers.
"""

import inspect
from contextvars import ContextVar
from functools import partial
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer
from transformers.modeling_outputs import CausalLMOutputWithPast

from .blocks import Block, attention_mask_4d, rotary  # if refinement
from .memory import MemoryState, NeuralMemory  # if memory
from .refinement import Refinement, ponder_loss  # if refinement

THETA = 10000.0  # of RoPE in a refinement's block
EPS = 1e-6


class Call(NamedTuple):
    """One forward of the base model, as the modules see it.

    mask: None, 2-D or 4-D, as it was given. positions: (B or 1, T). past, length: columns before and in this call. cache:
    or None; state: of the memory in it. steps: takes the Ponder whose steps are rows of the batch now. outer: the call
    that this one is inside of.
    """

    mask: Any
    positions: Any
    past: int
    length: int
    cache: Any
    state: Any
    steps: list
    outer: Any


CURRENT: ContextVar = ContextVar("call", default=None)
"""The call that this thread is in."""
PONDERED: ContextVar = ContextVar("pondered", default=None)
"""A list: then the base model hands on the states of all steps, as rows of the batch, and leaves the Ponder there."""


class NarrowBlock(nn.Module):
    """h + up(block(down(norm(h)))): a transformer block of fewer dimensions than the states that it refines."""

    def __init__(self, hidden_size, config):
        super().__init__()
        self.norm = nn.RMSNorm(hidden_size, config.rms_norm_eps)
        self.down = nn.Linear(hidden_size, config.hidden_size, bias=False)
        self.block = Block(config, config.num_hidden_layers, config.intermediate_size)
        self.up = nn.Linear(config.hidden_size, hidden_size, bias=False)

    def forward(self, h, angles, mask, causal, cache, slot=None):
        """Hidden states h (B, T, hidden) → the same shape."""
        return h + self.up(self.block(self.down(self.norm(h)), angles, mask, causal, cache, slot))


def decoder_layers(model):
    """The list of a model's layers.

    :raises ValueError: there is none of num_hidden_layers modules.
    """
    count = model.config.get_text_config().num_hidden_layers
    for module in model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return module
    raise ValueError(f"{type(model).__name__} has no list of {count} layers")


def attach(wrapped):
    """Give a wrapped model the modules that its config names, closed, and hang them into `wrapped.inner`.

    config.memory: {"layer": it stands in front of, "size", "heads", "chunk"}; config.refinement: {"width", "size",
    "heads", "steps", "prior", "beta"}; see a Cognate's config.

    :raises ValueError: there is no such layer, or the model has no list of layers.
    """
    memory, refinement = wrapped.config.memory, wrapped.config.refinement
    base = wrapped.inner.base_model
    layers, hidden = decoder_layers(base), base.config.get_text_config().hidden_size
    if memory:
        if not 0 <= memory["layer"] < len(layers):
            raise ValueError(f"there is no layer {memory['layer']} of {len(layers)}")
        wrapped.memory = NeuralMemory(
            SimpleNamespace(
                hidden_size=hidden, rms_norm_eps=EPS, memory_size=memory["size"], memory_heads=memory["heads"],
                memory_chunk=memory["chunk"],
            )
        )  # fmt: skip
        remember = partial(read_memory, wrapped.memory)
        layers[memory["layer"]].register_forward_pre_hook(remember, with_kwargs=True)
    if refinement:
        narrow = SimpleNamespace(
            hidden_size=refinement["width"], intermediate_size=refinement["size"], rms_norm_eps=EPS,
            num_attention_heads=refinement["heads"], num_key_value_heads=refinement["heads"],
            num_hidden_layers=len(layers),
        )  # fmt: skip
        wide = SimpleNamespace(
            hidden_size=hidden, num_hidden_layers=len(layers), refinement_steps=refinement["steps"],
            refinement_prior=refinement["prior"],
        )  # fmt: skip
        wrapped.refinement = Refinement(wide, NarrowBlock(hidden, narrow))
        angles = partial(rotary, head_dim=refinement["width"] // refinement["heads"], theta=THETA)
        layers[-1].register_forward_hook(partial(refine, wrapped.refinement, angles))
    slots = len(layers) + (refinement["steps"] if refinement else 0)
    names = tuple(inspect.signature(base.forward).parameters)
    base.register_forward_pre_hook(partial(enter, names, slots, bool(memory)), with_kwargs=True)
    base.register_forward_hook(leave, always_call=True)


def enter(names, slots, has_memory, base, args, kwargs):
    """Note a call of the base model; it makes a cache only when `use_cache` asks for one."""
    kwargs = dict(zip(names, args, strict=False)) | kwargs
    cache = kwargs.get("past_key_values")
    kwargs["use_cache"] = bool(kwargs.get("use_cache"))
    if cache is None and kwargs["use_cache"]:
        cache = kwargs["past_key_values"] = DynamicCache(config=base.config)
    state = None if cache is None else extend(cache, slots, has_memory)
    given = kwargs.get("input_ids") if kwargs.get("inputs_embeds") is None else kwargs["inputs_embeds"]
    past, length = 0 if cache is None else cache.get_seq_length(), given.shape[1]
    mask, positions = kwargs.get("attention_mask"), kwargs.get("position_ids")
    if isinstance(mask, dict):
        raise ValueError(
            "a model with a memory or a refinement takes one mask, and not one for each kind of layer"
        )
    if positions is None and mask is not None and mask.ndim == 2:
        positions = (mask.long().cumsum(-1) - 1).clamp_min(0)[:, -length:]
    elif positions is None:
        positions = torch.arange(past, past + length, device=given.device)[None]
    CURRENT.set(Call(mask, positions, past, length, cache, state, [], CURRENT.get()))
    return (), kwargs


def leave(base, args, output):
    """The call is over, or has failed. The base model gives the chosen states, and `ponder`, as a Cognate does."""
    call = CURRENT.get()
    if call is None:
        return None
    CURRENT.set(call.outer)
    if output is None or not call.steps:
        return None
    [ponder], pondered = call.steps, PONDERED.get()
    if pondered is not None:
        pondered.append(ponder)
        return None
    states = output.last_hidden_state.unflatten(0, (len(ponder.states), -1))
    output.ponder = ponder._replace(states=states)
    output.last_hidden_state = ponder.choose(states)
    if output.hidden_states is not None:
        output.hidden_states = (*output.hidden_states[:-1], output.last_hidden_state)
    return output


def extend(cache, slots, has_memory):
    """Give `cache` the slots that generate() does not know of → the memory's state, or None."""
    while len(cache.layers) < slots:
        cache.layers.append(DynamicLayer())
    if not has_memory:
        return None
    if len(cache.layers) == slots:
        cache.layers.append(MemoryState())
    return cache.layers[slots]


def read_memory(memory, layer, args, kwargs):
    """What a layer is given, after the memory was read and written."""
    call = CURRENT.get()
    hidden = args[0] if args else kwargs["hidden_states"]
    hidden = memory(hidden, call.mask, call.state)
    if args:
        return (hidden, *args[1:]), kwargs
    return args, kwargs | {"hidden_states": hidden}


def refine(refinement, angles, layer, args, output):
    """What the last layer gives, refined; in training every step's, as further rows of the batch: each has a loss."""
    call = CURRENT.get()
    x = output[0] if isinstance(output, tuple) else output
    mask, causal = attention_mask_4d(call.mask, call.length, call.past, x.device)
    ponder = refinement(x, angles(call.positions), mask, causal, call.cache)
    if ponder is None:
        return output
    if refinement.training and refinement.gate.requires_grad and torch.is_grad_enabled():
        call.steps.append(ponder)
        x = ponder.states.flatten(0, 1)
    else:
        x = ponder.choose(ponder.states)
    return (x, *output[1:]) if isinstance(output, tuple) else x


def open_to_training(wrapped):
    """Whether the refinement's gate is trained now."""
    return wrapped.refinement.gate.requires_grad and torch.is_grad_enabled()


def pondered_loss(wrapped, labels, **kwargs):
    """PonderNet's loss over all steps of the refinement, a mean over labelled tokens in nats.

    The output layer sees only the columns that some row learns from.

    :returns: CausalLMOutputWithPast with the loss, and the chosen steps' logits at these columns.
    """
    learnt = labels[:, 1:] != -100
    columns = learnt.any(0).nonzero()[:, 0]
    pondered: list = []
    before = PONDERED.set(pondered)
    try:
        out = wrapped.inner(**kwargs | {"logits_to_keep": columns, "use_cache": False})
    finally:
        PONDERED.reset(before)
    ponder, learnt = pondered[0], learnt[:, columns]
    steps = out.logits.unflatten(0, (len(ponder.states), -1))  # (N, B, C, V)
    targets = labels[:, 1:][:, columns][learnt]
    losses = torch.stack([F.cross_entropy(step[learnt].float(), targets, reduction="none") for step in steps])
    config = wrapped.config.refinement
    loss = ponder_loss(ponder.log_p[:, :, columns][:, learnt], losses, config["prior"], config["beta"])
    chosen = ponder._replace(step=ponder.step[:, columns])
    return CausalLMOutputWithPast(loss=loss, logits=chosen.choose(steps))
