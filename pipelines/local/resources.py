"""What a planned run asks of a machine, and of a cluster, phase by phase."""

from __future__ import annotations

import contextlib
import os
from dataclasses import asdict, dataclass
from typing import Any

from ..cluster import Cluster
from ..phases import SPECS
from ..runs.folder import DONE, DamagedRun, RunFolder, readable
from ..settings import from_parameters
from .plan import Plan


@dataclass(frozen=True)
class PhaseResources:
    """What a phase asks for.

    :param tasks: that will run.
    :param threads: of each, on the CPU.
    :param peak_memory_bytes: of one task, as the newest run of the same profile measured it; None where none has.
    :param pod: on Kubeflow: requests of CPU and memory.
    :param accelerators: on Kubeflow, of each pod: how many, 0 for none.
    """

    tasks: int
    threads: int
    peak_memory_bytes: int | None
    pod: dict[str, Any]
    accelerators: int


@dataclass(frozen=True)
class Resources:
    """What a run asks for.

    :param slots: tasks at the same time on this machine, which has so many cores and so much memory.
    """

    slots: int
    cores: int
    memory_bytes: int
    phases: dict[str, PhaseResources]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)


def resources(plan: Plan, cluster: Cluster) -> Resources:
    """What the tasks of a plan that will run ask for.

    :param cluster: the settings of the cluster on which they might run.
    """
    memory = _peak_memory(plan)
    configs = from_parameters(plan.parameters)
    phases: dict[str, PhaseResources] = {}
    for phase in dict.fromkeys(task.phase for task in plan.tasks if task.fate == "run" and task.phase):
        gpu = cluster.wants_gpu(SPECS[phase])
        phases[phase] = PhaseResources(
            tasks=sum(task.phase == phase and task.fate == "run" for task in plan.tasks),
            threads=configs[phase].settings.threads if phase in configs else 1,
            peak_memory_bytes=memory.get(phase),
            pod=cluster.pods["gpu" if gpu else "cpu"].requests.model_dump(),
            accelerators=int(cluster.parameters.accelerator_limit) if gpu else 0,
        )
    pages = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Resources(plan.options.slots, os.cpu_count() or 1, pages, phases)


def _peak_memory(plan: Plan) -> dict[str, int]:
    """Bytes that a task of each phase took at most, in the newest run of the same profile that has some."""
    runs = [
        (status.started or 0.0, folder.path)
        for folder, status in readable(plan.folder.path.parent)
        if status.profile == plan.status.profile
    ]
    peaks: dict[str, int] = {}
    for _, folder in sorted(runs):
        newest: dict[str, int] = {}
        with contextlib.suppress(DamagedRun):  # it is another run's trouble
            for task in RunFolder(folder).tasks():
                if task.phase and task.status in DONE and task.peak_memory_bytes:
                    newest[task.phase] = max(newest.get(task.phase, 0), task.peak_memory_bytes)
        peaks |= newest
    return peaks
