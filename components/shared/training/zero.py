"""DeepSpeed ZeRO 1, 2, 3 (Rajbhandari et al., arXiv 1910.02054) under the settings of configs/deepspeed.

1 cuts the optimiser's states over the ranks, 2 the gradients too, 3 the weights as well. DeepSpeed gives the optimiser flat
float32 pieces of the weights: what looks at whole matrices (Muon) is refused where settings are checked.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils import cpp_extension

from components.shared.optim.optimizer import MuonAdamW
from components.shared.runtime.checkpoint.snapshot import Snapshot
from components.shared.runtime.code import CONFIGS
from components.shared.runtime.errors import ConfigError
from components.shared.runtime.ranks import group

from .objective import Objective
from .shards import shares_modules
from .strategy import Alone, Refuse


class Zero(Alone):
    """A DeepSpeed engine around the objective."""

    def __init__(
        self,
        objective: Objective,
        optimizers: Mapping[str, Optimizer],
        clip: float,
        *,
        stage: int,
        offload: bool,
    ) -> None:
        optimizer = _one(optimizers)
        super().__init__(objective, {"zero": optimizer}, clip)
        self.stage = stage
        deepspeed = _deepspeed(objective.device_kind)
        _build_operators()
        config = read_config(stage, offload) | {"gradient_clipping": clip}
        if stage == 3:
            experts = {
                type(m) for m in objective.modules() if isinstance(getattr(m, "experts", None), nn.Module)
            }
            if experts:  # which of them a token reaches differs from rank to rank: they are gathered together
                deepspeed.utils.set_z3_leaf_modules(objective, list(experts))
        self.norms: list[bool] = []
        self.hook = optimizer.register_step_pre_hook(self._look)
        self.engine, *_ = deepspeed.initialize(model=objective, optimizer=optimizer, config=config)

    def zero_grad(self) -> None:
        """DeepSpeed forgets gradients at the end of its step."""

    def gradient(self, last: bool) -> float:
        """As alone; DeepSpeed reduces at the last part."""
        self.engine.set_gradient_accumulation_boundary(last)
        loss = self.engine()
        self.engine.backward(loss * group.world(), scale_wrt_gas=False)
        return float(loss.detach())

    def apply(self, refuse: Refuse) -> float:
        """DeepSpeed clips and steps in one; a gradient that is not finite ends it before any weight has changed."""
        try:
            self.engine.step()
        except _NotFinite:
            refuse(float("nan"))
        norm = self.engine.get_global_grad_norm()
        norm = float("nan") if getattr(self.engine.optimizer, "overflow", False) else float(norm)
        refuse(norm)
        return norm

    def _look(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        """Before the optimiser's step: look that this step's pieces of the gradient are finite."""
        grads = [p.grad for each in optimizer.param_groups for p in each["params"] if p.grad is not None]
        bad = any(not bool(torch.isfinite(grad).all()) for grad in grads)
        if bad:
            raise _NotFinite

    @contextlib.contextmanager
    def whole(self) -> Iterator[None]:
        """Gather the weights, where they are cut."""
        if self.stage < 3:
            yield
            return
        zero = _deepspeed(self.objective.device_kind).zero
        with zero.GatheredParameters(list(self.objective.parameters()), modifier_rank=None):
            yield

    def share_out(self, snapshot: Snapshot) -> None:
        """Save each rank's pieces of the optimiser's states; in stage 3 of the weights, too."""
        snapshot.optimizers = {"zero": ZeroState(self.engine.optimizer, self.stage)}
        snapshot.own.add("optimizers/zero")
        if self.stage == 3:
            for name, module in snapshot.modules.items():
                if shares_modules(module, self.objective):
                    snapshot.modules[name] = Nothing()
                    snapshot.own.add(f"modules/{name}")

    def finish(self) -> None:
        """Gather tensor by tensor, and take DeepSpeed's hooks and classes off."""
        self.hook.remove()
        if self.stage == 3:
            self._gather()
        self.engine.destroy()
        for module in self.objective.modules():
            for name, parameter in module._parameters.items():
                if parameter is not None:  # of its own memory, and no longer a view of DeepSpeed's flat one
                    parameter.data = parameter.data.clone()
                    parameter.grad = None
                    module._parameters[name] = parameter

    def _gather(self) -> None:
        zero = _deepspeed(self.objective.device_kind).zero
        made: dict[int, nn.Parameter] = {}
        for module in self.objective.modules():
            plain: dict[str, nn.Parameter | None] = {}
            for name in list(module._parameters):
                parameter = dict.__getitem__(module._parameters, name)
                if parameter is not None and id(parameter) not in made:
                    with zero.GatheredParameters([parameter], modifier_rank=None):
                        made[id(parameter)] = nn.Parameter(parameter.data.clone(), parameter.requires_grad)
                plain[name] = None if parameter is None else made[id(parameter)]
            module._parameters = plain
            module.__dict__.pop("_original_parameters", None)


class _NotFinite(Exception):
    """A gradient holds inf or nan."""


class Nothing:
    """A module whose weights another entry of the snapshot holds."""

    def state_dict(self) -> dict[str, Tensor]:
        """Nothing."""
        return {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Nothing to do."""


class ZeroState:
    """This rank's float32 pieces of the weights, and the optimiser's states of them.

    :param optimizer: DeepSpeed's, around the one that was given to it.
    """

    def __init__(self, optimizer: Any, stage: int) -> None:
        self.zero, self.stage = optimizer, stage

    @property
    def pieces(self) -> list[Tensor]:
        """Flat, float32."""
        if self.stage == 3:
            return list(self.zero.fp32_partitioned_groups_flat)
        return list(self.zero.single_partition_of_fp32_groups)

    def state_dict(self) -> dict[str, Any]:
        """Pieces of the weights, and the state of the optimiser below."""
        with self._groups():
            state = self.zero.optimizer.state_dict()
        return {"pieces": [piece.detach() for piece in self.pieces], "optimizer": state}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put them back, and the weights of the model after them."""
        for piece, saved in zip(self.pieces, state["pieces"], strict=True):
            piece.data.copy_(saved)
        with self._groups():
            self.zero.optimizer.load_state_dict(state["optimizer"])
        if self.stage < 3:
            self.zero.update_lp_params()
            return
        for number, piece in enumerate(self.pieces):
            self.zero.fp16_partitioned_groups_flat[number].data.copy_(piece.data)
            updated = self.zero.unflatten(
                self.zero.fp16_partitioned_groups_flat[number], self.zero.fp16_partitioned_groups[number]
            )
            for parameter, value in zip(self.zero.fp16_partitioned_groups[number], updated, strict=True):
                parameter.data = value.data

    @contextlib.contextmanager
    def _groups(self) -> Iterator[None]:
        """Stage 3 lends the optimiser its pieces for a step only."""
        if self.stage < 3:
            yield
            return
        self.zero._set_fp32_optimizer_param_groups()
        try:
            yield
        finally:
            self.zero._clear_fp32_optimizer_param_groups()


def read_config(stage: int, offload: bool) -> dict[str, Any]:
    """The settings that DeepSpeed gets, out of configs/deepspeed.

    :raises ConfigError: there is no such file.
    """
    path = CONFIGS / "deepspeed" / f"zero{stage}{'_offload' if offload else ''}.json"
    try:
        config: dict[str, Any] = json.loads(path.read_text())
    except OSError as error:
        raise ConfigError("DeepSpeed's settings are not there", where=str(path), why=str(error)) from error
    return config


def _one(optimizers: Mapping[str, Optimizer]) -> Optimizer:
    """One optimiser of all groups, for DeepSpeed takes one. Its groups are those of the given ones, not copies."""
    if len(optimizers) == 1:
        return next(iter(optimizers.values()))
    groups = [each for optimizer in optimizers.values() for each in optimizer.param_groups]
    if any(not isinstance(optimizer, MuonAdamW) for optimizer in optimizers.values()) or any(
        each["muon"] for each in groups
    ):
        raise ConfigError(
            "DeepSpeed takes one optimiser, and these cannot be made one",
            where=", ".join(optimizers),
            fix="set optimizer: adamw, or engine.strategy: ddp or fsdp",
        )
    return MuonAdamW(groups, groups[0]["lr"])


def _deepspeed(device: str) -> Any:
    """DeepSpeed, imported on first use; on a CPU without its C++ operators.

    :raises ConfigError: it is not installed.
    """
    if device == "cpu":
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    try:
        import deepspeed
    except ImportError as error:
        raise ConfigError(
            "DeepSpeed is not installed",
            where="engine.strategy",
            why=str(error),
            fix="pip install --no-build-isolation 'agent-forge[deepspeed]', or choose strategy ddp or fsdp",
        ) from error
    return deepspeed


def _build_operators() -> None:
    """Build what DeepSpeed compiles for ranks on CPUs before it does so itself, one process of the machine at a time.

    torch marks a build that is under way by a file, which outlives a killed process: every rank after it would wait for
    ever. Behind a lock that the kernel frees such a file is nobody's.
    """
    from deepspeed.comm.torch import build_shm_op

    folder = Path(cpp_extension._get_build_directory("deepspeed_shm_comm", verbose=False))
    with FileLock(folder.with_suffix(".forge-lock")):
        (folder / "lock").unlink(missing_ok=True)
        build_shm_op()
