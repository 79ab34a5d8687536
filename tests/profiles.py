"""A profile, shrunk: its own tasks, levels, stages and families, with two steps and a few items of everything.

Nothing is listed by phase: what counts items or steps is known by the name of its key, so that a setting that is new is
shrunk too where it is called as the others are.
"""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.shared.runtime.code import CONFIGS
from components.shared.runtime.config.settings import Config, as_json, model_of, parse
from components.shared.runtime.lifecycle import perform
from components.shared.runtime.phase import Phase
from components.shared.runtime.request.inputs import Request
from pipelines.phases import PHASES
from pipelines.settings import composed

MOST: dict[str, float] = {
    **dict.fromkeys(
        ("steps", "iterations", "passes", "samples", "questions", "children", "finalists", "dreams"), 2
    ),
    **dict.fromkeys(
        ("generations", "islands", "rounds", "patience", "warmup", "talk", "curve", "trajectories"), 1
    ),
    **dict.fromkeys(
        ("population", "elites", "positions", "length", "refinement_steps", "num_hidden_layers"), 2
    ),
    **dict.fromkeys(("items", "select_items", "search_items", "calibration_items", "gram_items"), 8),
    **dict.fromkeys(("batch", "rows", "answer_tokens", "rank", "gate_items", "layer_groups"), 8),
    **{"held_out": 16, "held_out_items": 16, "probe_items": 32, "dispatch_items": 32},
    **dict.fromkeys(("hidden_size", "refinement_size"), 32),
    **{"vocabulary_size": 512, "intermediate_size": 64, "memory_size": 16, "threads": 1, "window": 10},
}
"""Key → what it is at most in a shrunk profile."""

FIRST = {"candidates": 3, "controls": 1, "bakes": 2}
"""Key → how many of its names are left."""

LEAST = {"questions": 8}
"""Of the keys whose sense depends on the phase: what the phase baking needs."""

OF_KNOWLEDGE = ("retention", "stage_degradation")
"""What phase compression measures of a model that does better than a uniform guess."""

WHOLE = ("calibration",)
"""Sections that count tokens of a text, which is none here."""


@functools.cache
def settings_of(profile: str) -> dict[str, Config[Any]]:
    """Phase → its config in a profile."""
    return composed(profile=profile)


def made(
    config: Config[Any], output: Path, step: str = "", inputs: tuple[Path, ...] = (), **said: Any
) -> Path:
    """The artifact of one phase at its shrunk settings."""
    asked = (
        {"trunk" if "variant" in said else "input_model": [str(path) for path in inputs]} if inputs else {}
    )
    request = Request(asked, str(output), settings=config.parameter, seed=0, step=step, parameters=said)
    perform(_class_of(config.phase), request, CONFIGS)
    return output


def the_other_phases_pass(configs: dict[str, Config[Any]], variants: list[Path], folder: Path) -> None:
    """Evomerge and every phase behind it comes to its end."""
    model = made(configs["evomerge"], folder / "evomerge", inputs=tuple(variants))
    for phase in PHASES[PHASES.index("evomerge") + 1 :]:
        model = made(configs[phase], folder / phase, inputs=(model,))
    assert (model / "forge.json").exists()


def _class_of(phase: str) -> type[Phase[Any]]:
    module = importlib.import_module(f"components.{phase}.phase")
    [found] = [
        member
        for _, member in inspect.getmembers(module, inspect.isclass)
        if issubclass(member, Phase) and member.__module__ == module.__name__
    ]
    return found


def shrunk(config: Config[Any]) -> Config[Any]:
    """The same settings at a size that takes seconds."""
    section = _shrunk(config.tree[config.phase])
    if "engine" in section:  # shards are for several devices, and bfloat16 is slow where no kernel has it
        section["engine"] |= {"strategy": "single", "offload": False, "precision": "auto"}
    # A network that has learnt nothing passes no gate, and may have no knowledge to retain.
    section["gates"] = [
        gate | {"on_fail": "warn"} for gate in section["gates"] if gate["metric"] not in OF_KNOWLEDGE
    ]
    if config.phase == "compression":
        section["bytes"] = 1_200_000
    if config.phase == "baking":
        section["questions"] = LEAST["questions"]
    if "steps" in section and "warmup" in section:
        section["warmup"] = min(section["warmup"], section["steps"] - 1)
    evaluation = {**config.tree["evaluation"], "items": 6, "batch": 64}
    text = as_json({"profile": config.profile, "evaluation": evaluation, config.phase: section})
    return parse(config.phase, model_of(config.phase), text, config.seed)


def _shrunk(node: Any) -> Any:
    if isinstance(node, Mapping):
        return {key: value if key in WHOLE else _least(key, value) for key, value in node.items()}
    return [_shrunk(value) for value in node] if isinstance(node, list) else node


def _least(key: str, value: Any) -> Any:
    """A number that its key makes small; the tree below anything else."""
    if isinstance(value, list) and key in FIRST:
        return _shrunk(value[: FIRST[key]])
    if isinstance(value, (int, float)) and not isinstance(value, bool) and key in MOST:
        return min(value, MOST[key])
    return _shrunk(value)
