"""The configuration of a phase: Hydra composes it, pydantic gives it types, errors name key, file and values.

configs/config.yaml holds what every run starts from, configs/phase/<name>.yaml the defaults of a phase and
configs/profile/<profile>.yaml what a profile changes. Overrides (`bitnet.steps=200`) come last. A phase
sees its own section, `evaluation` and the seed, and nothing else: its digest changes only when something
that it uses does. So it needs no other phase's defaults, and its image has none.
"""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from omegaconf import DictConfig
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..code import CONFIGS
from ..errors import ConfigError
from ..wording import close_matches, did_you_mean
from . import config_errors
from .gate import Gate
from .tree import compose_tree, known_phases, plain


class PhaseSettings(BaseModel):
    """What every phase can be told; each phase's `Settings` adds its own. Unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    threads: int = Field(
        2, ge=1, description="CPU threads for torch; another number may change the last bits"
    )
    checkpoint_seconds: float = Field(30.0, ge=0, description="seconds of work that a kill may cost")
    gates: list[Gate] = Field(default_factory=list, description="conditions on the result, see gates.py")
    register_as: str = Field(
        "", description="name in MLflow's model registry that the result gets; empty: none"
    )


class EvaluationSettings(BaseModel):
    """How the five suites are run: the same for every phase, so that scores can be compared."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    items: int = Field(ge=1, description="items of each suite")
    batch: int = Field(ge=1, description="items in one forward pass")


S = TypeVar("S", bound=BaseModel)


@dataclass(frozen=True)
class Config:
    """A composed and validated configuration. `tree` is all of it that this phase uses, as plain JSON."""

    phase: str
    profile: str
    seed: int
    settings: Any
    evaluation: EvaluationSettings
    tree: dict[str, Any]

    @property
    def digest(self) -> str:
        """sha256 of the tree as canonical JSON, without `checkpoint_seconds`, which changes no result."""
        return self._digest_without("checkpoint_seconds")

    @property
    def work_digest(self) -> str:
        """The same without what decides where and whether a result is published, but not how it is made."""
        return self._digest_without("checkpoint_seconds", "gates", "register_as")

    def _digest_without(self, *names: str) -> str:
        section = {key: value for key, value in self.tree[self.phase].items() if key not in names}
        return digest_of_tree({**self.tree, self.phase: section})


def digest_of_tree(tree: dict[str, Any]) -> str:
    """sha256 of canonical JSON: sorted keys, no spaces."""
    text = json.dumps(tree, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def compose(
    phase: str,
    settings: type[BaseModel],
    *,
    profile: str = "tiny",
    overrides: Sequence[str] = (),
    seed: int | None = None,
    configs: Path = CONFIGS,
) -> Config:
    """Compose the configuration of one phase.

    :param settings: the phase's pydantic model.
    :param overrides: Hydra overrides, `section.key=value`; those of other phases have no effect here.
    :param seed: overrules the seed of the files.
    :raises ConfigError: all that is wrong, at once: key, who set it, what is allowed, what looks like it.
    """
    tree = compose_tree(profile, overrides, configs)
    return _typed(tree, phase, settings, profile, overrides, seed, configs)


def _typed(
    tree: DictConfig,
    phase: str,
    settings: type[BaseModel],
    profile: str,
    overrides: Sequence[str],
    seed: int | None,
    configs: Path,
) -> Config:
    """What one phase uses of the tree, validated."""
    if phase not in tree or not (configs / "phase" / f"{phase}.yaml").is_file():
        raise ConfigError(
            f"there are no settings for phase {phase!r}", where=str(configs / "phase" / f"{phase}.yaml")
        )
    files = [
        (configs / "profile" / f"{profile}.yaml", ""),
        (configs / "phase" / f"{phase}.yaml", f"{phase}."),
        (configs / "config.yaml", ""),
    ]
    section, common = plain(tree, phase), plain(tree, "evaluation")
    seed = tree.get("seed") if seed is None else seed
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        raise ConfigError(f"the seed is {seed!r}", where="seed", fix="give an integer ≥ 0")
    problems: list[str] = []
    typed = _validate(settings, section, phase, overrides, files, problems)
    evaluation = _validate(EvaluationSettings, common, "evaluation", overrides, files, problems)
    if typed is None or evaluation is None:
        if len(problems) == 1:
            raise ConfigError("a setting is wrong", where=f"profile {profile}", why=problems[0])
        lines = "\n  ".join(["", *problems])
        raise ConfigError(f"{len(problems)} settings are wrong", where=f"profile {profile}", why=lines)
    used = {
        "profile": profile,
        "seed": seed,
        "evaluation": evaluation.model_dump(mode="json"),
        phase: typed.model_dump(mode="json"),
    }
    return Config(phase, profile, seed, typed, evaluation, used)


def validate_all(
    profile: str = "tiny", overrides: Sequence[str] = (), *, seed: int | None = None, configs: Path = CONFIGS
) -> list[Config]:
    """Compose and validate the settings of every phase.

    :raises ConfigError: the problems of all phases together.
    """
    tree = compose_tree(profile, overrides, configs)
    done, problems = [], []
    for phase in known_phases(configs):
        name = f"components.{phase}.settings"
        try:
            module = importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not name.startswith(error.name):
                raise
            problems.append(str(ConfigError(f"phase {phase!r} has no settings module", where=name)))
            continue
        try:
            done.append(_typed(tree, phase, module.Settings, profile, overrides, seed, configs))
        except ConfigError as error:
            problems.append(str(error))
    if problems:
        raise ConfigError("\n".join(dict.fromkeys(problems)))
    return done


def _validate(
    model: type[S],
    values: Any,
    section: str,
    overrides: Sequence[str],
    files: list[tuple[Path, str]],
    problems: list[str],
) -> S | None:
    """The typed section, or None and its problems in words.

    It goes through JSON in strict mode: 1 is a fine float and a list a fine tuple, "1" and true are no
    integers.
    """
    try:
        return model.model_validate_json(json.dumps(values), strict=True)
    except ValidationError as error:
        schema = model.model_json_schema()
        for found in error.errors(include_url=False):
            location = found["loc"]
            key = ".".join([section, *(str(part) for part in location)])
            source = config_errors.source_of(key, overrides, files)
            value = json.dumps(found["input"], ensure_ascii=False)
            if found["type"] == "extra_forbidden":
                names = config_errors.keys(schema, location[:-1])
                problems.append(
                    f"{key} is unknown [{source}], {did_you_mean(str(location[-1]), names, none='no keys')}"
                )
            elif found["type"] == "missing":
                problems.append(f"{key} is not set, allowed: {config_errors.allowed(schema, location)}")
            else:
                words = config_errors.allowed(schema, location)
                detail = f"allowed: {words}" if words else ""
                if found["type"] in ("value_error", "assertion_error") or not words:
                    detail = found["msg"].removeprefix("Value error, ")
                elif isinstance(found["input"], str) and words.startswith("one of "):
                    near = close_matches(found["input"], words.removeprefix("one of ").split(", "))
                    detail += f"; did you mean {near[0]}?" if near else ""
                problems.append(f"{key} = {value} [{source}], {detail}")
        return None
