"""One optimiser for a whole model: Muon on the hidden matrices, AdamW on everything else.

Muon orthogonalises the momentum of a matrix, which has no meaning for embeddings, norms, gates and biases. Its updates
have the size of AdamW's, so that one learning rate serves both.
"""

from __future__ import annotations

from typing import Any, get_args

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from components.shared.runtime.errors import ConfigError

from .grokfast import Grokfast, attach
from .kinds import OptimizerKind
from .muon import fast_dtype, muon_step

BETAS = (0.9, 0.95)
SMALLEST_MATRIX = 16  # thinner ones are gates and heads: there is nothing to orthogonalise


def build_optimizer(
    model: nn.Module,
    kind: OptimizerKind = "muon",
    lr: float = 5e-3,
    weight_decay: float = 0.0,
    grokfast: Grokfast | None = None,
    bits: int = 32,
) -> Optimizer:
    """The optimiser of a model's trainable parameters.

    Vectors (norms, gates, biases) are not decayed. The state has torch's own form, so it is saved and restored like any
    optimiser's.

    :param kind: Muon on the hidden matrices (in the dtype that the device is fast in, or in bfloat16) and AdamW on the
        rest, or AdamW on all.
    :param lr: the peak learning rate; `schedule.set_rate` scales it step by step.
    :param grokfast: amplify slow gradients inside the optimiser's step.
    :param bits: of AdamW's moments: 32, or 8, quantised block by block (Dettmers et al., arXiv 2110.02861).
    :raises ConfigError: nothing is trainable, or there is no such kind.
    """
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not trainable:
        raise ConfigError("the model has nothing to train", where="optim", fix="unfreeze some parameters")
    kinds = get_args(OptimizerKind)
    if kind not in kinds:
        raise ConfigError(
            f"there is no optimiser {kind!r}", where="optim", fix=f"use one of {', '.join(kinds)}"
        )
    if bits == 8:
        optimizer = _of_8_bits(trainable, kind, lr, weight_decay)
        if grokfast is not None:
            attach(optimizer, grokfast)
        return optimizer
    matrices = hidden_matrices(model) if kind != "adamw" else []
    muon_ids = {id(parameter) for parameter in matrices}
    others = [parameter for parameter in trainable if id(parameter) not in muon_ids]
    groups = [
        {"params": [p for p in others if p.ndim >= 2], "weight_decay": weight_decay, "muon": False},
        {"params": [p for p in others if p.ndim < 2], "weight_decay": 0.0, "muon": False},
        {
            "params": matrices,
            "weight_decay": weight_decay,
            "muon": True,
            "dtype": "bfloat16" if kind == "muon_bfloat16" else fast_dtype(trainable[0].device),
        },
    ]
    optimizer = MuonAdamW([group for group in groups if group["params"]], lr)
    if grokfast is not None:
        attach(optimizer, grokfast)
    return optimizer


def _of_8_bits(trainable: list[nn.Parameter], kind: str, lr: float, weight_decay: float) -> Optimizer:
    """Bitsandbytes' AdamW; tensors of fewer than 4,096 entries keep float32 moments.

    :raises ConfigError: another optimiser is asked for, or the package is not there.
    """
    if kind != "adamw":
        raise ConfigError(f"optimiser {kind} has no states of 8 bits", where="optim", fix="use adamw")
    try:
        from bitsandbytes.optim import AdamW8bit
    except ImportError as error:
        raise ConfigError(
            "the package bitsandbytes is not installed",
            where="engine.optimizer_bits",
            why=str(error),
            fix="pip install 'agent-forge[adapters]', or set engine.optimizer_bits: 32",
        ) from error
    groups = [
        {"params": [p for p in trainable if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trainable if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer: Optimizer = AdamW8bit([each for each in groups if each["params"]], lr=lr, betas=BETAS)
    for each in optimizer.param_groups:
        each["initial_lr"] = lr
    return optimizer


def hidden_matrices(model: nn.Module) -> list[Tensor]:
    """Trainable 2-D weights that map hidden states to hidden states: no embedding, no output head, no thin gate."""
    outside = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    find_head = getattr(model, "get_output_embeddings", None)  # of every Hugging Face model
    head = find_head() if find_head is not None else None
    if head is not None:
        outside.add(id(head.weight))
    return [
        parameter
        for parameter in model.parameters()
        if parameter.requires_grad
        and parameter.ndim == 2
        and min(parameter.shape) >= SMALLEST_MATRIX
        and id(parameter) not in outside
    ]


class MuonAdamW(Optimizer):
    """Muon and torch's AdamW over one list of groups and one state: a group's `muon` says whose it is."""

    def __init__(self, groups: list[dict[str, Any]], lr: float) -> None:
        super().__init__(groups, {"lr": lr, "initial_lr": lr})
        self.share()

    def share(self) -> None:
        """Let AdamW work on this object's own groups and state."""
        groups = [group for group in self.param_groups if not group["muon"]]
        self.adamw = AdamW(groups, betas=BETAS) if groups else None
        if self.adamw is not None:
            self.adamw.state = self.state

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One update of every parameter that has a gradient."""
        if self.adamw is not None:
            # Those of this moment: DeepSpeed lends its groups one by one.
            self.adamw.param_groups = [group for group in self.param_groups if not group["muon"]]
            self.adamw.step()
        for group in self.param_groups:
            if group["muon"]:
                muon_step(group, self.state)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        super().load_state_dict(state_dict)
        self.share()
