"""The configuration of phases, composed by Hydra from files and overrides.

configs/config.yaml holds what every run starts from, configs/phase/<name>.yaml the defaults of a phase and
configs/profile/<profile>.yaml what a profile changes. Overrides (`<phase>.steps=200`) come last. A phase
sees its own section, `evaluation` and the seed, and nothing else: its digest changes only when something
that it uses does. So it needs no other phase's defaults, and its image has none.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ..code import CONFIGS
from ..errors import ConfigError
from . import config_errors
from .settings import SUITES, Config, S, model_of, typed
from .tree import compose_tree, plain

ASKED = ("evomerge.suites", "training.target")
"""Settings of phases that name what these ask models, beside `evaluation.suites`: no phase's training text may hold it."""


def compose(
    phase: str,
    settings: type[S],
    *,
    profile: str = "tiny",
    overrides: Sequence[str] = (),
    seed: int | None = None,
    configs: Path = CONFIGS,
) -> Config[S]:
    """Compose the configuration of one phase.

    :param settings: the phase's pydantic model.
    :param overrides: Hydra overrides, `section.key=value`; those of other phases have no effect here.
    :param seed: overrules the seed of the files.
    :raises ConfigError: all that is wrong, at once: key, who set it, what is allowed, what looks like it.
    """
    tree = compose_tree(profile, overrides, configs)
    return _typed(tree, phase, settings, profile, overrides, seed, configs)


def compose_all(
    phases: Sequence[str],
    *,
    profile: str = "tiny",
    overrides: Sequence[str] = (),
    seed: int | None = None,
    configs: Path = CONFIGS,
) -> dict[str, Config[Any]]:
    """Compose the configurations of several phases, whose models are components.<phase>.settings.Settings.

    :returns: phase → configuration, in the order of `phases`.
    :raises ConfigError: the problems of all phases together.
    """
    tree = compose_tree(profile, overrides, configs)
    composed: dict[str, Config[Any]] = {}
    problems: list[str] = []
    for phase in phases:
        try:
            model = model_of(phase)
            composed[phase] = _typed(tree, phase, model, profile, overrides, seed, configs)
        except ConfigError as error:
            problems.append(str(error))
    if problems:
        raise ConfigError("\n".join(dict.fromkeys(problems)))
    return composed


def _typed(
    tree: DictConfig,
    phase: str,
    settings: type[S],
    profile: str,
    overrides: Sequence[str],
    seed: int | None,
    configs: Path,
) -> Config[S]:
    """What one phase uses of the tree, validated."""
    defaults = configs / "phase" / f"{phase}.yaml"
    if phase not in tree or not defaults.is_file():
        raise ConfigError(f"there are no settings for phase {phase!r}", where=str(defaults))
    files = [
        (configs / "profile" / f"{profile}.yaml", ""),
        (defaults, f"{phase}."),
        (configs / "config.yaml", ""),
    ]
    return typed(
        phase,
        settings,
        {phase: plain(tree, phase), "evaluation": _with_asked(plain(tree, "evaluation"), tree)},
        profile=profile,
        seed=tree.get("seed") if seed is None else seed,
        where=f"profile {profile}",
        source=lambda key: config_errors.source_of(key, overrides, files),
    )


def _with_asked(evaluation: Any, tree: DictConfig) -> Any:
    """The section `evaluation`, whose `apart` has what other phases ask; the five suites are kept apart anyway."""
    named = [OmegaConf.select(tree, key) for key in ASKED]
    asked = [name for names in named if OmegaConf.is_list(names) for name in names if name not in SUITES]
    if not asked or not isinstance(evaluation, dict) or not isinstance(evaluation.get("apart", []), list):
        return evaluation  # what is wrong with it is said where it is validated
    return evaluation | {"apart": list(dict.fromkeys([*evaluation.get("apart", []), *asked]))}
