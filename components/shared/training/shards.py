"""FSDP2: weights, gradients and optimiser states cut over the ranks (Zhao et al., arXiv 2304.11277; torch `fully_shard`).

Each layer's weights are gathered for its forward and backward pass and go away behind them. Between loops the model is
plain and whole again, gathered tensor by tensor, so that nothing else in a phase knows of shards.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import (
    CPUOffloadPolicy,
    FSDPModule,
    MixedPrecisionPolicy,
    OffloadPolicy,
    fully_shard,
)
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from components.shared.runtime.checkpoint.snapshot import Snapshot
from components.shared.runtime.ranks import group

from .objective import Objective
from .strategy import Alone, Refuse, local


class Shards(Alone):
    """FSDP2 over all ranks."""

    def __init__(
        self, objective: Objective, optimizers: Mapping[str, Optimizer], clip: float, *, offload: bool
    ) -> None:
        super().__init__(objective, optimizers, clip)
        kind = objective.device_kind
        mesh = init_device_mesh(kind, (group.world(),))
        policy = OffloadPolicy() if not offload or kind == "cpu" else CPUOffloadPolicy()
        precision = (
            MixedPrecisionPolicy()
            if objective.dtype is None
            else MixedPrecisionPolicy(param_dtype=objective.dtype, reduce_dtype=torch.float32)
        )
        names = {id(parameter): name for name, parameter in objective.named_parameters()}
        for module in layers(objective.learner):
            fully_shard(module, mesh=mesh, mp_policy=precision, offload_policy=policy)
        fully_shard(objective, mesh=mesh, mp_policy=precision, offload_policy=policy)
        _state_of(objective)._lazy_init()  # it is the root, even where a layer is called before it
        cut = dict(objective.named_parameters())
        for optimizer in self.optimizers.values():
            for each in optimizer.param_groups:
                each["params"] = [cut[names[id(parameter)]] for parameter in each["params"]]

    def gradient(self, last: bool) -> float:
        """As alone; each part's gradients are summed over the ranks at once, so that none is ever whole for long."""
        loss = self.objective()
        (loss * group.world()).backward()
        return float(loss.detach())

    def apply(self, refuse: Refuse) -> float:
        """As alone, with the norm over all shards."""
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        total = nn.utils.get_total_norm(gradients)
        total = total.full_tensor() if isinstance(total, DTensor) else total
        refuse(float(total))
        nn.utils.clip_grads_with_norm_(self.parameters, self.clip, total)
        for optimizer in self.optimizers.values():
            optimizer.step()
        return float(total)

    @contextlib.contextmanager
    def whole(self) -> Iterator[None]:
        """Gather what belongs to no layer; layers gather themselves when they are called."""
        root: Any = self.objective
        root.unshard()
        try:
            yield
        finally:
            root.reshard()

    def share_out(self, snapshot: Snapshot) -> None:
        """Save each rank's shards of what learns, and of its optimisers' states."""
        for name, module in snapshot.modules.items():
            if shares_modules(module, self.objective):
                snapshot.modules[name] = LocalModule(module)
                snapshot.own.add(f"modules/{name}")
        for name, optimizer in snapshot.optimizers.items():
            snapshot.optimizers[name] = LocalOptimizer(optimizer)
            snapshot.own.add(f"optimizers/{name}")

    def finish(self) -> None:
        """Gather tensor by tensor, and take the hooks off."""
        for module in self.objective.modules():
            if isinstance(module, FSDPModule):
                module.reshard()
        made: dict[int, nn.Parameter] = {}
        for module in self.objective.modules():
            for name, parameter in module._parameters.items():
                if isinstance(parameter, DTensor):
                    if id(parameter) not in made:
                        whole = parameter.detach().full_tensor().to(self.objective.device_kind)
                        made[id(parameter)] = nn.Parameter(whole, parameter.requires_grad)
                    module._parameters[name] = made[id(parameter)]
        for module in self.objective.modules():
            if isinstance(module, FSDPModule):
                state = _state_of(module)
                state._pre_forward_hook_handle.remove()
                state._post_forward_hook_handle.remove()
                module.__class__ = type(module).__mro__[
                    2
                ]  # FSDP<class> stands on FSDPModule and on the class itself
                for key in [key for key in module.__dict__ if type(key).__name__ != "str"]:
                    del module.__dict__[key]


def shares_modules(one: nn.Module, other: nn.Module) -> bool:
    """Whether a module is in both."""
    ids = {id(module) for module in other.modules()}
    return any(id(module) in ids for module in one.modules())


def layers(model: nn.Module) -> list[nn.Module]:
    """What is gathered at a time: the layers of the model's stacks, the inner before the outer.

    :returns: the modules in a ModuleList of modules with children of their own; the list of a list counts for its entries.
    """
    found = []
    for module in model.modules():
        if isinstance(module, nn.ModuleList) and type(module) is nn.ModuleList:
            found += [each for each in module if next(each.children(), None) is not None]
    inside = {id(inner) for outer in found for inner in outer.modules() if inner is not outer}
    return [each for each in found if id(each) not in inside and not isinstance(each, nn.ModuleList)]


def _state_of(module: nn.Module) -> Any:
    """What FSDP2 keeps of a module, its hooks among it."""
    sharded: Any = module
    return sharded._get_fsdp_state()


class LocalModule:
    """A module whose state are this rank's shards of its weights."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def state_dict(self) -> dict[str, Tensor]:
        """Name → this rank's shard."""
        return {name: local(tensor.detach()) for name, tensor in self.module.state_dict().items()}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Put the shards back."""
        for name, tensor in self.module.state_dict().items():
            local(tensor.detach()).copy_(state[name])


class LocalOptimizer:
    """An optimiser whose state are this rank's shards."""

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer = optimizer

    def state_dict(self) -> dict[str, Any]:
        """As the optimiser's own, with this rank's shards for its tensors."""
        state = self.optimizer.state_dict()
        states = {
            index: {
                name: local(value) if isinstance(value, Tensor) else value for name, value in each.items()
            }
            for index, each in state["state"].items()
        }
        return {**state, "state": states}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put the shards back, cut as the parameters are."""
        parameters = [parameter for each in self.optimizer.param_groups for parameter in each["params"]]
        states = {
            index: {name: _cut_like(parameters[index], value) for name, value in each.items()}
            for index, each in state["state"].items()
        }
        self.optimizer.load_state_dict({**state, "state": states})


def _cut_like(parameter: Tensor, value: Any) -> Any:
    """A shard of a state as a DTensor, where its parameter is one and has a shard of that shape."""
    if not isinstance(parameter, DTensor) or not isinstance(value, Tensor):
        return value
    if value.shape != parameter.to_local().shape or value.ndim == 0:
        return value
    return DTensor.from_local(
        value, parameter.device_mesh, parameter.placements, shape=parameter.shape, stride=parameter.stride()
    )
