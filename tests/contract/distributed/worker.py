"""What each rank of the tests' group does: every run that they ask about, one after another, in one process.

    python -m tests.contract.distributed.worker FOLDER     (in the environment of a rank)

DeepSpeed takes seconds to import, so the tests share one group. Each run leaves a file of losses, norms and weights.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, NamedTuple

import torch

from components.shared.runtime.errors import ForgeError
from components.shared.runtime.ranks import group
from components.shared.training.settings import EngineSettings
from tests.contract.distributed import training


class Run(NamedTuple):
    """Settings of the engine, optimiser, whether with Grokfast, whether an average of the weights is taken."""

    engine: dict[str, Any]
    optimizer: str = "adamw"
    grokfast: bool = False
    average: bool = False


LORA = {"adapter": "lora", "adapter_rank": 4}
RUNS = {
    "ddp adamw": Run({"strategy": "ddp"}),
    "ddp muon": Run({"strategy": "ddp"}, "muon"),
    "ddp grokfast": Run({"strategy": "ddp"}, grokfast=True),
    "ddp accumulated": Run({"strategy": "ddp", "accumulate": 2}),
    "ddp checkpointing": Run({"strategy": "ddp", "gradient_checkpointing": True}),
    "ddp lora": Run({"strategy": "ddp", **LORA}),
    "fsdp adamw": Run({"strategy": "fsdp"}),
    "fsdp muon": Run({"strategy": "fsdp"}, "muon"),
    "fsdp grokfast": Run({"strategy": "fsdp"}, grokfast=True),
    "fsdp average": Run({"strategy": "fsdp"}, average=True),
    "fsdp lora": Run({"strategy": "fsdp", **LORA}),
    **{f"zero{n} adamw": Run({"strategy": f"zero{n}"}) for n in (1, 2, 3)},
    **{f"zero{n} grokfast": Run({"strategy": f"zero{n}"}, grokfast=True) for n in (1, 2, 3)},
    **{f"zero{n} offload": Run({"strategy": f"zero{n}", "offload": True}) for n in (1, 2, 3)},
    "zero2 lora": Run({"strategy": "zero2", **LORA}),
    "zero3 lora": Run({"strategy": "zero3", **LORA}),
}
RESUMED = (
    *("ddp adamw", "fsdp muon", "fsdp average"),
    *("zero1 grokfast", "zero2 grokfast", "zero3 grokfast", "zero3 lora"),
)
KEPT_AT = 12


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    group.join()
    for name, (settings, *how) in RUNS.items():
        engine = EngineSettings(processes=2, **settings)
        place = str(folder / f"checkpoints {name}") if name in RESUMED else ""
        keep(folder / f"{name}.pt", training.train(engine, *how, folder=place, keep_at=KEPT_AT))
        if place:
            keep(folder / f"resumed {name}.pt", training.train(engine, *how, folder=place))
    engine = EngineSettings(processes=2, strategy="ddp", precision="bfloat16")
    keep(folder / "bfloat16.pt", training.train(engine))
    try:
        training.train(EngineSettings(processes=2, strategy="zero2"), diverge_at=3)
    except ForgeError as error:
        (folder / f"diverged {group.rank()}.txt").write_text(str(error))
    group.barrier()
    try:
        group.leave()
    except group.Left:
        (folder / "left").touch()


def keep(file: Path, result: object) -> None:
    if group.rank() == 0:
        torch.save(result, file)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
