"""Which strategy the settings ask for."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch.optim import Optimizer

from components.shared.runtime.errors import ConfigError

from .objective import Objective
from .settings import EngineSettings
from .shards import Shards
from .strategy import Alone, Replicas
from .zero import Zero


def strategy_of(
    engine: EngineSettings, objective: Objective, optimizers: Mapping[str, Optimizer], clip: float
) -> Alone:
    """The strategy that was asked for.

    :raises ConfigError: this process is no rank of a group, or an optimiser cannot work on shards.
    """
    if engine.strategy == "single":
        return Alone(objective, optimizers, clip)
    if not torch.distributed.is_initialized():
        raise ConfigError(
            f"strategy {engine.strategy} needs a group of ranks, and this process is in none",
            where="engine.strategy",
            fix="start the phase by its command (python -m components.<phase>), which starts the ranks",
        )
    if engine.strategy == "ddp":
        return Replicas(objective, optimizers, clip)
    if engine.strategy == "fsdp":
        return Shards(objective, optimizers, clip, offload=engine.offload)
    return Zero(objective, optimizers, clip, stage=int(engine.strategy[-1]), offload=engine.offload)
