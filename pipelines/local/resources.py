"""What a planned run asks of a machine, and of a cluster, phase by phase; and how many tasks this machine takes at once.

Slots are chosen once, before a run begins, from the cores and the memory that are really ours and free then. Threads are
not: a phase computes with as many as its settings say, wherever it is, as another number changes the last bits of its
result; where that is more than there are cores, its log says so. All tasks keep the priority that the runner was started
with: `nice make run` is how a run gives way to others.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.shared.runtime import machine

from ..phases import SPECS
from ..runs.folder import DONE, RunFolder, readable
from ..settings import from_parameters
from .forecast import earlier_tasks
from .plan import Plan

if TYPE_CHECKING:
    from ..cluster import Cluster

VARIANTS = 3
"""Cognate's, which train side by side from two cores on."""

TASK_MEMORY = 1 << 30
"""Bytes that a task takes, where no earlier run of the profile tells: the largest of profile tiny does."""


@dataclass(frozen=True)
class PhaseResources:
    """What a phase asks for.

    :param tasks: that will run.
    :param threads: of each, on the CPU.
    :param peak_memory_bytes: of one task, as the newest run of the same profile measured it; None where none has.
    :param expected_memory_bytes: of one task, worked out from the model's shape; `gpu_memory_bytes` and `disk_bytes`
        likewise, and `hours` of all its tasks. None where the shape is not known.
    :param pod: on Kubeflow: requests of CPU and memory.
    :param accelerators: on Kubeflow, of each pod: how many, 0 for none.
    """

    tasks: int
    threads: int
    peak_memory_bytes: int | None
    expected_memory_bytes: int | None
    gpu_memory_bytes: int | None
    disk_bytes: int | None
    hours: float | None
    pod: dict[str, Any]
    accelerators: int


@dataclass(frozen=True)
class Resources:
    """What a run asks for.

    :param slots: tasks at the same time on this machine.
    :param cores: that can be used here: of the affinity, or a control group's quota.
    :param memory_bytes: that can be had here, in use or not; `free_memory_bytes` are free now.
    """

    slots: int
    cores: float
    memory_bytes: int
    free_memory_bytes: int
    phases: dict[str, PhaseResources]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)


def resources(plan: Plan, cluster: Cluster) -> Resources:
    """What the tasks of a plan that will run ask for.

    :param cluster: the settings of the cluster on which they might run.
    """
    peaks = peak_memory(plan.folder.path.parent, plan.status.profile)
    configs = from_parameters(plan.parameters)
    costs = {cost.phase: cost for cost in plan.costs}
    phases: dict[str, PhaseResources] = {}
    for phase in dict.fromkeys(task.phase for task in plan.tasks if task.fate == "run" and task.phase):
        gpu = cluster.wants_gpu(SPECS[phase])
        phases[phase] = PhaseResources(
            tasks=sum(task.phase == phase and task.fate == "run" for task in plan.tasks),
            threads=configs[phase].settings.threads if phase in configs else 1,
            peak_memory_bytes=peaks.get(phase),
            expected_memory_bytes=costs[phase].host if phase in costs else None,
            gpu_memory_bytes=costs[phase].device if phase in costs else None,
            disk_bytes=costs[phase].disk if phase in costs else None,
            hours=round(costs[phase].hours, 3) if phase in costs else None,
            pod=cluster.pods["gpu" if gpu else "cpu"].requests.model_dump(),
            accelerators=int(cluster.parameters.accelerator_limit) if gpu else 0,
        )
    here = machine.memory()
    return Resources(plan.options.slots, machine.cores(), here.limit, here.free, phases)


def slots_for(cores: float, free_cores: float, free_memory: int, task_memory: int) -> int:
    """How many tasks at the same time a machine is good for.

    One for each pair of free cores, as a phase computes with two threads; where that is few, cognate's variants
    side by side, or on less than two cores one that computes and one that waits for a disk. Never more than memory takes.

    :param cores: that can be used; `free_cores` of them others leave us.
    :param free_memory: bytes; `task_memory` is what one task takes.
    """
    least = min(VARIANTS, math.ceil(cores) + 1)
    return max(1, min(max(least, int(free_cores // 2)), free_memory // task_memory))


def default_slots(runs: Path, profile: str, *, largest: int = 0) -> int:
    """How many tasks at the same time this machine is good for now.

    :param runs: folder of earlier runs, which tell how much memory a task of this profile takes.
    :param largest: bytes that a task takes by its model's shape, where that is known: another model may be larger.
    """
    cores = machine.cores()
    few = cores < 2 * (VARIANTS + 1)  # with any load the answer is the same: no need to look
    measured = max(peak_memory(runs, profile).values(), default=0)
    task = max(measured, largest) or TASK_MEMORY
    return slots_for(cores, cores if few else machine.free_cores(), machine.memory().free, task)


def peak_memory(runs: Path, profile: str) -> dict[str, int]:
    """Bytes that a task of each phase took at most, in the newest run of that profile that has some."""
    known = sorted(
        (status.started or 0.0, folder.path) for folder, status in readable(runs) if status.profile == profile
    )
    peaks: dict[str, int] = {}
    for tasks in earlier_tasks(RunFolder(path) for _, path in known):
        newest: dict[str, int] = {}
        for task in tasks:
            if task.phase and task.status in DONE and task.peak_memory_bytes:
                newest[task.phase] = max(newest.get(task.phase, 0), task.peak_memory_bytes)
        peaks |= newest
    return peaks
