"""What each phase takes, from a model's shape, the settings and a machine; and a refusal of what cannot fit, with its cure.

    costs = estimate(shape, configs, machine, parents=3)
    refuse_what_cannot_fit(costs, machine)

Memory is the peak of one process at its heaviest. Hours are operations over what the machine is taken to reach, and can be
off by a factor of two: they tell minutes from days. Disk is what artifacts and checkpoints take while the phase runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from components.shared.runtime.errors import ConfigError
from components.shared.tasks.registry import TASKS, sample

from .memory import GIB
from .phases import DEMANDS, Given
from .shape import BYTES, ModelShape
from .throughput import Machine

TEMPLATE = 48
"""Tokens of a chat template around a question."""
LETTERS = 2.2
"""Characters of the tasks' texts that a token of a large vocabulary stands for."""

CURES = {
    "activations": (
        "{phase}.engine.gradient_checkpointing=true, or fewer {phase}.rows (items that pass together)",
        "{phase}.batch, or lower levels",
    ),
    "optimiser states": ("{phase}.engine.adapter=lora, or engine.optimizer_bits=8 with optimizer=adamw",),
    "gradients": ("{phase}.engine.strategy=zero3 with engine.offload=true, or more engine.processes",),
    "weights": ("a smaller base model, or {phase}.engine.strategy=zero3 on more GPUs",),
    "parents": ("fewer --base-model, or --no-evomerge",),
    "Gram matrices of a tensor": (
        "fewer --base-model, or evomerge.methods without those that need activations",
    ),
    "teacher": ("bitnet.distillation=0, or a smaller base model",),
    "ternary weights": ("bitnet.engine.gradient_checkpointing=true",),
    "changed weights": ("baking.engine.gradient_checkpointing=true, or a smaller baking.rank",),
    "changes, their gradients and states": ("baking.rank=16 in place of null",),
    "singular vectors": (
        "--to baking, or a smaller base model: experts need the singular vectors of all projections",
    ),
    "logits of a chunk": ("fewer rows or items that pass together",),
}
"""Term → what makes it smaller."""


@dataclass(frozen=True)
class PhaseCost:
    """What a phase takes.

    :param host: peak of its process in bytes; `device` of its GPU, 0 without one.
    :param disk: bytes that it needs while it runs.
    :param hours: of all its tasks one after another.
    :param terms: name → bytes, the largest first.
    """

    phase: str
    host: int
    device: int
    disk: int
    hours: float
    terms: dict[str, int]


def estimate(
    shape: ModelShape,
    configs: Mapping[str, Any],
    machine: Machine,
    *,
    parents: int = 3,
    fresh: bool = False,
) -> list[PhaseCost]:
    """What these phases take.

    :param configs: phase → its settings, composed; a phase that has no formula here is left out.
    :param parents: models that evomerge merges.
    :param fresh: cognates are trained from nothing.
    """
    costs = []
    for phase, config in configs.items():
        if phase not in DEMANDS:
            continue
        tokens = longest_row(config.tree, shape)
        given = Given(shape, tokens, config.evaluation, parents, bool(machine.gpu), fresh)
        demand = DEMANDS[phase](config.settings, given)
        host, device = demand.terms.on_gpu() if machine.gpu else (demand.terms.on_cpu(), 0)
        terms = {
            **demand.terms.device,
            **{f"{name} (host)": size for name, size in demand.terms.host.items()},
        }
        largest = dict(sorted(terms.items(), key=lambda term: -term[1]))
        hours = (demand.flops / machine.flops + demand.seconds) / 3600
        costs.append(PhaseCost(phase, host, device, int(demand.disk), hours, largest))
    return costs


def longest_row(tree: Any, shape: ModelShape) -> int:
    """Tokens of the longest item of all tasks and levels that the settings name, as the model's tokenizer would see it."""
    letters = max((_letters(task, level) for task, level in _cells(tree)), default=120)
    tokens = letters + 2 if shape.vocabulary <= BYTES else int(letters / LETTERS) + TEMPLATE
    return min(tokens, shape.positions)


def _letters(task: str, level: int) -> int:
    """Characters of the longest of a few items."""
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
            ("GPU memory", cost.device, machine.gpu),
            ("memory", cost.host, machine.memory),
            ("disk", cost.disk, machine.disk),
        ):
            if needed > there:
                cure = "--runs on a larger disk" if what == "disk" else cure_of(cost)
                found.append(
                    f"{cost.phase} needs {needed / GIB:.1f} GiB of {what}, and {there / GIB:.1f} are there"
                    f" ({_largest(cost)}): {cure}"
                )
    return found


def cure_of(cost: PhaseCost) -> str:
    """What to change, by the phase's largest term."""
    for term in cost.terms:
        if ways := CURES.get(term.removesuffix(" (host)")):
            return "; ".join(ways).format(phase=cost.phase)
    return "a smaller base model, or a larger machine"


def _largest(cost: PhaseCost) -> str:
    return ", ".join(f"{name} {size / GIB:.1f}" for name, size in list(cost.terms.items())[:3])


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
