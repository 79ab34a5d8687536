"""What each rank of the tests' group does: every run that they ask about, one after another, in one process.

    torchrun … -m tests.contract.distributed.worker FOLDER

DeepSpeed takes seconds to import, so the tests share one group. Each run leaves a file of losses, norms and weights.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from components.shared.runtime.errors import ForgeError
from components.shared.runtime.ranks import group
from components.shared.training.settings import EngineSettings
from tests.contract.distributed import training

LORA = {"adapter": "lora", "adapter_rank": 4}
RUNS = {
    "ddp adamw": ({"strategy": "ddp"}, "adamw", False),
    "ddp muon": ({"strategy": "ddp"}, "muon", True),
    "ddp accumulated": ({"strategy": "ddp", "accumulate": 2}, "adamw", False),
    "ddp checkpointing": ({"strategy": "ddp", "gradient_checkpointing": True}, "adamw", False),
    "fsdp adamw": ({"strategy": "fsdp"}, "adamw", False),
    "fsdp muon": ({"strategy": "fsdp"}, "muon", True),
    "zero1 adamw": ({"strategy": "zero1"}, "adamw", False),
    "zero2 adamw": ({"strategy": "zero2"}, "adamw", True),
    "zero3 adamw": ({"strategy": "zero3"}, "adamw", False),
    "zero2 offload adamw": ({"strategy": "zero2", "offload": True}, "adamw", False),
    "zero3 offload adamw": ({"strategy": "zero3", "offload": True}, "adamw", False),
    "ddp lora": ({"strategy": "ddp", **LORA}, "adamw", False),
    "fsdp lora": ({"strategy": "fsdp", **LORA}, "adamw", False),
    "zero3 lora": ({"strategy": "zero3", **LORA}, "adamw", False),
}
"""Settings of the engine, optimiser, whether with Grokfast."""
RESUMED = ("ddp adamw", "fsdp adamw", "zero1 adamw", "zero3 lora")


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    group.join()
    for name, (settings, optimizer, grokfast) in RUNS.items():
        engine = EngineSettings(processes=2, **settings)
        keep(folder / f"{name}.pt", training.train(engine, optimizer, grokfast=grokfast))
    for name in RESUMED:
        engine = EngineSettings(processes=2, **RUNS[name][0])
        place = str(folder / f"checkpoints {name}")
        training.train(engine, folder=place, stop=12)
        keep(folder / f"resumed {name}.pt", training.train(engine, folder=place))
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
