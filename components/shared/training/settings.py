"""How a training loop runs on its devices: one or many, whole or in shards, full weights or adapters.

It imports no torch: settings are checked where a run is submitted, on a machine that may have none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Strategy = Literal["single", "ddp", "fsdp", "zero1", "zero2", "zero3"]
Launcher = Literal["torchrun", "trainjob", "pytorchjob"]
Precision = Literal["auto", "float32", "bfloat16"]
Adapter = Literal["none", "lora", "qlora"]


class EngineSettings(BaseModel):
    """What carries the training loops of a phase. The defaults: one process, one device, the weights whole."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    strategy: Strategy = Field(
        "single",
        description="one process; ddp: the weights on every rank; fsdp, zero1, zero2, zero3: states, gradients, weights in "
        "shards (torch FSDP2, DeepSpeed with configs/deepspeed)",
    )
    offload: bool = Field(
        False,
        description="shards live in host memory between uses (fsdp, zero1 … zero3): slower, less of a GPU's",
    )
    processes: int | Literal["auto"] = Field(
        1, description="ranks on each node; auto: one for each GPU of the machine, one where there is none"
    )
    nodes: int = Field(
        1, ge=1, le=1024, description="pods that train together; more than one need a training job"
    )
    launcher: Launcher = Field(
        "torchrun",
        description="torchrun inside the pod; trainjob, pytorchjob: pods of a job of Kubeflow's training operator",
    )
    precision: Precision = Field(
        "auto",
        description="of forward and backward passes; the weights that learn are float32, whatever is stored; auto: "
        "bfloat16 on a GPU in the phases that allow it, else float32",
    )
    accumulate: int = Field(
        1, ge=1, description="parts that a rank's share of a step is cut into, one in memory at a time"
    )
    gradient_checkpointing: bool = Field(
        False,
        description="activations are computed again in the backward pass: less memory, a third more time",
    )
    compile: bool = Field(False, description="torch.compile; needs a C++ compiler, on a GPU Triton")
    optimizer_bits: Literal[8, 32] = Field(32, description="of AdamW's moments; 8: blockwise quantised")
    adapter: Adapter = Field(
        "none",
        description="train low-rank changes only, through the quantiser of a ternary model; qlora: on weights of 4 bits, "
        "of models that are not ternary. Merged before publishing",
    )
    adapter_rank: int = Field(16, ge=1, description="of lora and qlora")
    workers: int = Field(0, ge=0, le=64, description="threads that draw the next steps' batches; 0: none")

    @model_validator(mode="after")
    def _fits_together(self) -> EngineSettings:
        """Refuse what cannot work, whatever the phase."""
        if self.processes != "auto" and not 1 <= self.processes <= 1024:
            raise ValueError(f"processes is {self.processes}; give 1 to 1024, or auto")
        many = self.processes != 1 or self.nodes > 1
        if self.strategy == "single" and many:
            raise ValueError(
                "strategy single is one process; with processes or nodes choose ddp, fsdp or zero1 … zero3"
            )
        if self.nodes > 1 and self.launcher == "torchrun":
            raise ValueError("torchrun starts ranks inside one pod; for several nodes set launcher: trainjob")
        if self.launcher != "torchrun" and self.strategy == "single":
            raise ValueError(
                f"launcher {self.launcher} makes a group of ranks; choose strategy ddp, fsdp or zero1 … zero3"
            )
        if self.offload and self.strategy in ("single", "ddp"):
            raise ValueError(
                f"strategy {self.strategy} has no offload; choose fsdp or zero1 … zero3, or offload: false"
            )
        if self.adapter == "qlora" and self.strategy in ("fsdp", "zero3"):
            raise ValueError(
                f"weights of 4 bits cannot be cut into shards by {self.strategy}; choose single, ddp, zero1 or zero2, or "
                "adapter: lora"
            )
        if self.optimizer_bits == 8 and self.strategy not in ("single", "ddp"):
            raise ValueError(
                f"states of 8 bits are not cut by {self.strategy}; choose single or ddp, or optimizer_bits: 32"
            )
        if self.compile and self.strategy.startswith("zero"):
            raise ValueError(
                "compile does not go with DeepSpeed's hooks; choose single, ddp or fsdp, or compile: false"
            )
        return self

    def check_optimizer(self, kind: str) -> None:
        """Refuse an optimiser that cannot work on what it would be given.

        :param kind: as in `OptimizerKind`.
        :raises ValueError: saying why, and what goes instead.
        """
        if not kind.startswith("muon"):
            return
        if self.strategy.startswith("zero"):
            raise ValueError(
                f"Muon makes whole matrices orthogonal, and {self.strategy} gives the optimiser flat pieces of them; "
                "choose optimizer: adamw, or strategy: fsdp"
            )
        if self.optimizer_bits == 8:
            raise ValueError(
                "Muon's momentum is not quantised; choose optimizer: adamw, or optimizer_bits: 32"
            )

    def check_strategy(self, allowed: Sequence[str], why: str) -> None:
        """Refuse a strategy that a phase cannot train under.

        :param allowed: those that it can.
        :param why: the phase's reason.
        :raises ValueError: another one is asked for.
        """
        if self.strategy not in allowed:
            raise ValueError(f"strategy {self.strategy}: {why}; choose {' or '.join(allowed)}")

    def check_states(self, why: str) -> None:
        """Refuse states of 8 bits in a phase whose optimiser has hardly any.

        :param why: the phase's reason.
        :raises ValueError: they are asked for.
        """
        if self.optimizer_bits == 8:
            raise ValueError(f"optimizer_bits 8: {why}; set engine.optimizer_bits: 32")

    def check_workers(self, why: str) -> None:
        """Refuse to draw ahead in a phase that cannot.

        :param why: the phase's reason.
        :raises ValueError: it is asked for.
        """
        if self.workers:
            raise ValueError(f"workers {self.workers}: {why}; set engine.workers: 0")

    def check_adapter(self, why: str) -> None:
        """Refuse adapters in a phase that cannot train with them.

        :param why: the phase's reason.
        :raises ValueError: an adapter is asked for.
        """
        if self.adapter != "none":
            raise ValueError(f"adapter {self.adapter}: {why}; set engine.adapter: none")
