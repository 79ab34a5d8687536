"""What each phase takes, from a model's shape, the settings and a machine; and a refusal of what cannot fit, with its cure.

    costs = estimate(shape, configs, machine, parents=3)
    refuse_what_cannot_fit(costs, machine)

Memory is the peak of one process at its heaviest. Hours are operations over what the machine is taken to reach, and can be
off by a factor of two: they tell minutes from days. Disk is what artifacts and checkpoints take while the phase runs.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from components.shared.runtime.errors import ConfigError
from components.shared.tasks.registry import TASKS, sample

from .cures import cure_of
from .memory import GIB, PROCESS, Terms, processes
from .phases import DEMANDS, Given, engine_of
from .shape import BYTES, ModelShape
from .throughput import Machine

TEMPLATE = 48
"""Tokens of a chat template around a question."""
OF_GPU, OF_HOST = "GPU memory", "memory"
LEARN = ("quietstar", "bitnet", "training", "baking")
"""Phases that leave a model in float32, whatever they found."""
LETTERS = 2.2
"""Characters of the tasks' texts that a token of a large vocabulary stands for."""


@dataclass(frozen=True)
class PhaseCost:
    """What a phase takes.

    :param host: peak in bytes of its processes on one machine; `device` of each one's GPU, 0 without one.
    :param disk: bytes that it needs while it runs.
    :param hours: of all its tasks one after another.
    :param terms: name → bytes of one process, the largest first.
    :param processes: on one machine.
    :param cures: "GPU memory", "memory" → what makes it smaller, of what the phase takes.
    """

    phase: str
    host: int
    device: int
    disk: int
    hours: float
    terms: dict[str, int]
    processes: int = 1
    cures: dict[str, str] = field(default_factory=dict)


def estimate(
    shape: ModelShape,
    configs: Mapping[str, Any],
    machine: Machine,
    *,
    parents: int = 3,
    fresh: bool = False,
    varied: bool = False,
) -> list[PhaseCost]:
    """What these phases take.

    :param configs: phase → its settings, composed, in the order in which they run; a phase that has no formula here is
        left out.
    :param parents: models that evomerge merges.
    :param fresh: cognates are trained from nothing.
    :param varied: all variants stand on one given model.
    """
    costs: list[PhaseCost] = []
    ternary, gpus = False, max(1, machine.gpus) if machine.gpu else 0
    for phase, config in configs.items():
        if phase not in DEMANDS:
            continue
        tokens = longest_row(config.tree, shape)
        given = Given(shape, tokens, config.evaluation, parents, gpus, fresh, varied, ternary)
        demand, ranks = DEMANDS[phase](config.settings, given), processes(engine_of(config.settings), gpus)
        if gpus:
            host, device = _beside_gpus(demand.terms, shape, ranks, 4 if phase in LEARN else shape.stored)
        else:
            host, device = demand.terms.on_cpu(ranks), 0
        terms = {
            **demand.terms.device,
            **{f"{name} (host)": size for name, size in demand.terms.host.items()},
        }
        largest = dict(sorted(terms.items(), key=lambda term: -term[1]))
        hours = (demand.flops / machine.flops + demand.seconds) / 3600
        cost = PhaseCost(phase, host, device, int(demand.disk), hours, largest, ranks)
        cost.cures.update(
            {what: cure_of(phase, config.settings, _terms_of(cost, what)) for what in (OF_GPU, OF_HOST)}
        )
        costs.append(cost)
        if phase in LEARN:
            shape, ternary = replace(shape, stored=4), ternary or phase == "bitnet"
    return costs


def _beside_gpus(terms: Terms, shape: ModelShape, ranks: int, written: int) -> tuple[int, int]:
    """Bytes of the host's memory and of one of its GPUs.

    A model is read by way of host memory by every rank; the first also writes it, and reads what it wrote.

    :param written: bytes of a weight that the phase writes.
    """
    others = PROCESS + max(sum(terms.host.values()), shape.stored * shape.parameters)
    terms.at_least("models that are read and written", 2 * written * shape.parameters, host=True)
    host, device = terms.on_gpu()
    return host + (ranks - 1) * others, device


def longest_row(tree: Any, shape: ModelShape) -> int:
    """Tokens of the longest item of all tasks and levels that the settings name, as the model's tokenizer would see it."""
    letters = max((_letters(task, level) for task, level in _cells(tree)), default=120)
    tokens = letters + 2 if shape.vocabulary <= BYTES else int(letters / LETTERS) + TEMPLATE
    return min(tokens, shape.positions)


@functools.cache
def _letters(task: str, level: int) -> int:
    """Characters of the longest of a few items. Some puzzles take a second to make."""
    items = [sample(task, "train", level, index, 0) for index in range(4)]
    return max(len(item.system + item.prompt + item.scratch + item.answer) for item in items)


def _cells(tree: Any) -> list[tuple[str, int]]:
    """(task, level) of every mixture in the settings, at the highest of its levels."""
    cells: list[tuple[str, int]] = []
    if isinstance(tree, Mapping):
        tasks, levels = tree.get("tasks"), tree.get("levels")
        for task in tasks or ():
            of_task = levels.get(task, [1]) if isinstance(levels, Mapping) else levels
            if task in TASKS and of_task:
                cells.append((task, max(of_task)))
        return cells + [cell for value in tree.values() for cell in _cells(value)]
    if isinstance(tree, list):
        return [cell for value in tree for cell in _cells(value)]
    return cells


def problems(costs: Sequence[PhaseCost], machine: Machine) -> list[str]:
    """What does not fit, a sentence each with the setting to change; none where everything does."""
    found = []
    for cost in costs:
        for what, needed, there in (
            (OF_GPU, cost.device, machine.gpu),
            (OF_HOST, cost.host, machine.memory),
            ("disk", cost.disk, machine.disk),
        ):
            if needed > there:
                cure = "--runs on a larger disk" if what == "disk" else cost.cures.get(what, "")
                found.append(
                    f"{cost.phase} needs {needed / GIB:.1f} GiB of {what}, and {there / GIB:.1f} are there"
                    f"{_largest(cost, what)}: {cure}"
                )
    return found


def _terms_of(cost: PhaseCost, what: str) -> dict[str, int]:
    """The terms in a GPU's memory, or in the host's; without a GPU all are in the host's."""
    if not cost.device:
        return cost.terms if what == OF_HOST else {}
    return {name: size for name, size in cost.terms.items() if name.endswith(" (host)") == (what == OF_HOST)}


def _largest(cost: PhaseCost, what: str) -> str:
    terms = list(_terms_of(cost, what).items())[:3] if what != "disk" else []
    if not terms:
        return ""
    ranks = f"{cost.processes} processes, of each " if cost.processes > 1 and what == OF_HOST else ""
    return f" ({ranks}{', '.join(f'{name} {size / GIB:.1f}' for name, size in terms)})"


def refuse_what_cannot_fit(costs: Sequence[PhaseCost], machine: Machine) -> None:
    """Nothing, where everything fits.

    :raises ConfigError: it names each phase that does not, its largest terms, and what makes them smaller.
    """
    found = problems(costs, machine)
    if found:
        raise ConfigError(
            f"{len(found)} of the phases cannot fit on this machine"
            if len(found) > 1
            else "a phase cannot fit",
            where=machine.name,
            why="\n  ".join(["", *found]),
            fix="change what is named, or run on a larger machine (forge doctor --base-model X --profile Y shows all)",
        )
