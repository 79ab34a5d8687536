"""The settings of a run: composed and validated once, where it is submitted, and one parameter of the pipeline a phase.

    configs = composed(profile="small", overrides=["bitnet.steps=100"], seed=7)
    parameters = as_parameters(configs)      # {"cognate_settings": '{"profile":"small",…}', …, "seed": 7}

A phase reads its own parameter and nothing else, so that the cache key of its task changes with its own settings only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from components.evomerge.settings import check_fan_out
from components.shared.runtime.code import CONFIGS
from components.shared.runtime.config.compose import compose_all
from components.shared.runtime.config.settings import Config, model_of, parse
from components.shared.runtime.errors import ConfigError

from .phases import PHASES

SUFFIX = "_settings"


def parameter_of(phase: str) -> str:
    """The pipeline's parameter with the settings of a phase."""
    return f"{phase}{SUFFIX}"


def composed(
    phases: Sequence[str] = PHASES,
    *,
    profile: str = "tiny",
    overrides: Sequence[str] = (),
    seed: int | None = None,
    configs: Path = CONFIGS,
) -> dict[str, Config[Any]]:
    """The settings of these phases, in their order.

    :param overrides: `section.key=value`; those of phases that do not run have no effect.
    :param seed: None for that of configs/config.yaml.
    :raises ConfigError: everything that is wrong, in all phases at once.
    """
    return compose_all(phases, profile=profile, overrides=overrides, seed=seed, configs=configs)


def as_parameters(configs: Mapping[str, Config[Any]]) -> dict[str, Any]:
    """The same as parameters of the pipeline: `<phase>_settings`, a JSON text each, and the seed that they share."""
    parameters: dict[str, Any] = {parameter_of(phase): config.parameter for phase, config in configs.items()}
    return {**parameters, "seed": next(iter(configs.values())).seed} if configs else parameters


def from_parameters(parameters: Mapping[str, Any]) -> dict[str, Config[Any]]:
    """The settings that the parameters of a pipeline hold, validated; those of other pipelines hold none.

    :raises ConfigError: everything that is wrong, in all phases at once.
    """
    configs: dict[str, Config[Any]] = {}
    problems = []
    for phase in PHASES:
        name = parameter_of(phase)
        if name not in parameters:
            continue
        try:
            where = f"parameter {name}"
            configs[phase] = parse(
                phase, model_of(phase), parameters[name], parameters.get("seed", 0), where=where
            )
        except ConfigError as error:
            problems.append(str(error))
    if problems:
        raise ConfigError("\n".join(problems))
    return configs


def check_search(configs: Mapping[str, Config[Any]], *, rounds: int, workers: int) -> None:
    """Whether evomerge's settings and the pipeline's shape fit each other; nothing where evomerge does not run.

    :raises ConfigError: they do not.
    """
    if "evomerge" in configs:
        check_fan_out(configs["evomerge"].settings, rounds=rounds, workers=workers)
