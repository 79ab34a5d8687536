"""Which rank of its group this process is, and what ranks have to agree on.

torchrun says it in the environment (RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT). Every rank runs the phase's
code; rank 0 alone publishes, tracks, reports and writes what is not its own shard. Without a group all of this is the
identity, and costs nothing.
"""

from __future__ import annotations

import os
from datetime import timedelta

import torch
import torch.distributed as dist

from ..errors import ForgeError, PhaseFailed

PATIENCE = timedelta(minutes=30)
"""Between two meetings of the ranks; one of them may be evaluating or writing for so long."""
LOST = ("Connection closed by peer", "Connection reset by peer", "gloo/transport", "Broken pipe", "heartbeat")
"""What the backends say when another rank is gone."""


class Left(ForgeError):
    """This rank has done its part; rank 0 evaluates and publishes alone."""

    exit_code = 0


def started_as_rank() -> bool:
    """Whether a launcher has started this process as one rank of a group."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def rank() -> int:
    """The number of this process in its group; 0 without one."""
    if dist.is_available() and dist.is_initialized():
        return int(dist.get_rank())
    return int(os.environ["RANK"]) if started_as_rank() else 0


def world() -> int:
    """How many processes the group has now; 1 without one, or when the others have left."""
    return int(dist.get_world_size()) if dist.is_available() and dist.is_initialized() else 1


def join() -> None:
    """Meet the other ranks: NCCL between GPUs and gloo between hosts' memories, gloo alone where no GPU is.

    :raises PhaseFailed: the others do not come.
    """
    if world() > 1 or dist.is_initialized():
        return
    local, backend = int(os.environ.get("LOCAL_RANK", "0")), "gloo"
    if torch.cuda.is_available():
        torch.cuda.set_device(local % torch.cuda.device_count())
        backend = "cpu:gloo,cuda:nccl"
    try:
        dist.init_process_group(backend, timeout=PATIENCE)
    except (RuntimeError, ValueError) as error:
        raise PhaseFailed(
            "the ranks do not find each other",
            where=f"{os.environ.get('MASTER_ADDR', '')}:{os.environ.get('MASTER_PORT', '')}",
            why=str(error).splitlines()[0],
            fix="look at the logs of the other ranks; ports between their pods have to be open",
            transient=True,
        ) from error


def leave() -> None:
    """All training is done: the group ends, and rank 0 goes on alone.

    :raises Left: in every other rank.
    """
    if not dist.is_initialized():
        return
    number = int(dist.get_rank())
    barrier()
    dist.destroy_process_group()
    if number:
        raise Left(f"rank {number} has done its part")


def barrier() -> None:
    """Wait for the others."""
    if world() > 1:
        any_of(False)


def any_of(flag: bool) -> bool:
    """Whether it is so on any rank."""
    return bool(most([float(flag)])[0])


def most(values: list[float]) -> list[float]:
    """The largest of each value over the ranks; not a number where one is."""
    return _reduced(values, dist.ReduceOp.MAX) if world() > 1 else values


def total(values: list[float]) -> list[float]:
    """The sum of each value over the ranks, the same on all."""
    return _reduced(values, dist.ReduceOp.SUM) if world() > 1 else values


def gathered(digest: bytes) -> list[bytes]:
    """As many bytes of every rank, in their order."""
    if world() == 1:
        return [digest]
    own = torch.tensor(list(digest), dtype=torch.uint8)
    found = [torch.empty_like(own) for _ in range(world())]
    dist.all_gather(found, own)
    return [bytes(each.tolist()) for each in found]


def union(names: list[str]) -> set[str]:
    """What any rank names."""
    if world() == 1:
        return set(names)
    text = "\n".join(names).encode()
    width = int(most([float(len(text))])[0])
    found = gathered(text.ljust(width, b"\n"))
    return {name for each in found for name in each.decode().split("\n") if name}


def is_loss_of_a_rank(error: BaseException) -> bool:
    """Whether an exception of torch's says that another rank is gone."""
    if world() == 1:
        return False
    if isinstance(error, dist.DistError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in LOST)


def _reduced(values: list[float], how: dist.ReduceOp.RedOpType) -> list[float]:
    """On the CPU in float64, so that nothing is lost and no GPU is waited for."""
    tensor = torch.tensor(values, dtype=torch.float64)
    dist.all_reduce(tensor, how)
    return [float(value) for value in tensor]
