"""What this machine has for runs: GPUs, each for one run at a time; slots, in which tasks run; memory.

A run is given its share before it begins and gives it back when it has ended. Nothing is promised twice: what runs may
still take of what they were given counts as taken, also while they use less.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

GIB = float(1 << 30)


@dataclass(frozen=True)
class Demand:
    """What a run wants.

    :param gpus: that one process of it wants: 0 or 1. It is given more where nobody waits for them.
    :param slots: tasks at the same time.
    :param memory_bytes: that all its tasks at one time may take.
    """

    gpus: int = 0
    slots: int = 1
    memory_bytes: int = 0


@dataclass(frozen=True)
class Grant:
    """What a run was given.

    :param gpus: their names, as CUDA_VISIBLE_DEVICES has them.
    """

    gpus: tuple[str, ...] = ()
    slots: int = 0
    memory_bytes: int = 0

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return {**asdict(self), "gpus": list(self.gpus)}


def grant_of(recorded: Mapping[str, Any] | None) -> Grant:
    """What a run's row says that it was given."""
    given = recorded or {}
    return Grant(
        tuple(given.get("gpus") or ()), int(given.get("slots") or 0), int(given.get("memory_bytes") or 0)
    )


@dataclass
class Pools:
    """What is there, and who has what.

    :param gpus: names of all.
    :param slots: tasks at the same time, of all runs together.
    :param memory_bytes: that processes here can have at most.
    :param free_memory: bytes that are free now, and what each run uses of its own: asked each time.
    """

    gpus: Sequence[str]
    slots: int
    memory_bytes: int
    free_memory: Callable[[], tuple[int, Mapping[str, int]]]
    given: dict[str, Grant] = field(default_factory=dict)

    def possible(self, demand: Demand) -> Demand:
        """As much of a demand as this machine has at all: what wants more gets the whole machine."""
        return Demand(
            min(demand.gpus, len(self.gpus)),
            max(1, min(demand.slots, self.slots)),
            min(demand.memory_bytes, self.memory_bytes),
        )

    def free(self) -> Free:
        """What is not given away now."""
        taken = {name for grant in self.given.values() for name in grant.gpus}
        free, used = self.free_memory()
        promised = sum(grant.memory_bytes for grant in self.given.values())
        unused = sum(max(0, grant.memory_bytes - used.get(run, 0)) for run, grant in self.given.items())
        return Free(
            [name for name in self.gpus if name not in taken],
            self.slots - sum(grant.slots for grant in self.given.values()),
            # Beside our own promises others are at work here; alone, a run has all that there is.
            min(self.memory_bytes - promised, free - unused) if self.given else self.memory_bytes,
        )

    def give(self, run: str, grant: Grant) -> None:
        """Give a run its share, or take it up again from the run's row."""
        self.given[run] = grant

    def give_back(self, run: str) -> None:
        """The run has ended."""
        self.given.pop(run, None)

    def to_json(self) -> dict[str, Any]:
        """What is there, who has what, and what is free, as plain JSON."""
        free = self.free()
        return {
            "gpus": list(self.gpus), "slots": self.slots, "memory_bytes": self.memory_bytes,
            "free": {
                "gpus": free.gpus, "slots": max(0, free.slots), "memory_bytes": max(0, free.memory_bytes)
            },
            "given": {run: grant.to_json() for run, grant in self.given.items()},
        }  # fmt: skip

    def lacking(self, demand: Demand, free: Free) -> str:
        """What a run waits for, in words; "" where there is enough."""
        if demand.gpus > len(free.gpus):
            return f"waits for a GPU: {_who(self.given, lambda grant: bool(grant.gpus), _gpus)}"
        if demand.slots > max(0, free.slots):
            wanted = f"{demand.slots} slots" if demand.slots > 1 else "a slot"
            return f"waits for {wanted} of {self.slots}: {_who(self.given, lambda grant: grant.slots > 0, _slots)}"
        if demand.memory_bytes > max(0, free.memory_bytes):
            gib, there = demand.memory_bytes / GIB, max(0, free.memory_bytes) / GIB
            others = _who(self.given, lambda grant: grant.memory_bytes > 0, _memory)
            return f"waits for {gib:.1f} GiB of memory: {there:.1f} free, {others}"
        return ""


@dataclass
class Free:
    """What can be given."""

    gpus: list[str]
    slots: int
    memory_bytes: int

    def take(self, demand: Demand, more_gpus: int = 0) -> Grant:
        """Take a share out.

        :param more_gpus: beyond the demand, as far as there are some.
        """
        number = min(len(self.gpus), demand.gpus + more_gpus)
        gpus = tuple(self.gpus[:number])
        del self.gpus[:number]
        self.slots -= demand.slots
        self.memory_bytes -= demand.memory_bytes
        return Grant(gpus, demand.slots, demand.memory_bytes)

    def reserve(self, demand: Demand) -> None:
        """Keep it for who waits before all others: as much of it as there is."""
        del self.gpus[: demand.gpus]
        self.slots -= demand.slots
        self.memory_bytes -= demand.memory_bytes


def slots_of_machine(cores: float) -> int:
    """Tasks at the same time, of all runs together: two runs of the least size side by side, or one task a core."""
    return max(6, math.ceil(cores))


def _who(given: Mapping[str, Grant], has: Callable[[Grant], bool], how: Callable[[Grant], str]) -> str:
    holders: Iterable[str] = (f"run {run} has {how(grant)}" for run, grant in given.items() if has(grant))
    shown = list(holders)
    return (
        ", ".join(shown[:3]) + (f" and {len(shown) - 3} more" if len(shown) > 3 else "") or "others have it"
    )


def _gpus(grant: Grant) -> str:
    return ", ".join(grant.gpus)


def _slots(grant: Grant) -> str:
    return str(grant.slots)


def _memory(grant: Grant) -> str:
    return f"{grant.memory_bytes / GIB:.1f}"
