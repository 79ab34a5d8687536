"""One form for every architecture: each projection is an nn.Linear with its weight as (out, in).

GPT-2 keeps its matrices as (in, out) in Conv1D; mixtures of experts keep the matrices of all experts of a layer in one
3-D parameter. In linear form the first are Linears of the transposed weight, and each expert has three Linears of its
own. The function stays the same, to what float32 rounds otherwise.
"""

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D


class Expert(nn.Module):
    """A gated feed-forward network: down(act(gate(x)) · up(x))."""

    def __init__(self, gate, up, down, act_fn):
        super().__init__()
        self.gate, self.up, self.down, self.act_fn = gate, up, down, act_fn

    def forward(self, x):
        """Tokens x (n, hidden) → (n, hidden)."""
        return self.down(self.act_fn(self.gate(x)) * self.up(x))


class Experts(nn.ModuleList):
    """Expert after expert, each over the tokens that were routed to it: it stands where the fused experts stood."""

    def forward(self, hidden_states, top_k_index, top_k_weights):
        """Tokens (n, hidden), the experts of each (n, k) int64 and their weights (n, k) → (n, hidden).

        With gradients the experts that no token reached are called too, with none: each weight gets a gradient, as it
        does in a fused parameter.
        """
        mixed = torch.zeros_like(hidden_states)
        for number, expert in enumerate(self):
            token, rank = torch.where(top_k_index == number)
            if len(token) or torch.is_grad_enabled():
                out = expert(hidden_states[token]) * top_k_weights[token, rank, None]
                mixed = mixed.index_add(0, token, out.to(mixed.dtype))
        return mixed


def is_fused(module):
    """Whether a module holds gated experts that can be taken apart: (E, 2·inner, hidden) and (E, hidden, inner).

    transformers notes at the class how its experts lie; those with biases, transposed or interleaved matrices, or a gate
    of their own stay as they are.
    """
    gate_up, down = (getattr(module, name, None) for name in ("gate_up_proj", "down_proj"))
    if not (isinstance(gate_up, nn.Parameter) and isinstance(down, nn.Parameter) and gate_up.ndim == 3):
        return False
    plain = getattr(module, "is_concatenated", False) and getattr(module, "has_gate", False)
    odd = any(getattr(module, name, False) for name in ("is_transposed", "has_bias", "has_post_expert_norm"))
    gate = getattr(type(module), "_apply_gate", None)
    experts, hidden, inner = down.shape
    return (
        plain
        and not odd
        and getattr(gate, "__name__", "") == "_default_apply_gate"
        and gate_up.shape == (experts, 2 * inner, hidden)
    )


def linear(weight, bias=None):
    """A Linear of a weight (out, in), copied so that it shares no storage, and of a bias (out,) as it is."""
    with torch.device("meta"):
        layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    layer.weight = nn.Parameter(weight.detach().clone(memory_format=torch.contiguous_format))
    layer.bias = bias
    return layer


def split(fused):
    """Fused experts → Experts. One layer's weights are there twice while it lasts."""
    inner = fused.down_proj.shape[2]
    return Experts(
        Expert(linear(gate_up[:inner]), linear(gate_up[inner:]), linear(down), fused.act_fn)
        for gate_up, down in zip(fused.gate_up_proj, fused.down_proj)  # noqa: B905 # as long by their shapes
    )


def linear_form(model):
    """Bring a model into linear form, in place, a layer at a time. → whether anything was to do."""
    changed = False
    for parent in list(model.modules()):
        for name, module in list(parent.named_children()):
            if isinstance(module, Conv1D):
                new = linear(module.weight.t(), module.bias)
            elif is_fused(module):
                new = split(module)
            else:
                continue
            setattr(parent, name, new.train(module.training))
            changed = True
            del module
    return changed
