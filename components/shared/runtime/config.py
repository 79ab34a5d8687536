"""The configuration of a phase: Hydra composes it, pydantic gives it types, errors name key, file and values.

configs/config.yaml holds what every run starts from, configs/phase/<name>.yaml the defaults of a phase and
configs/profile/<profile>.yaml what a profile changes. Overrides (`bitnet.steps=200`) come last. A phase
sees its own section, `evaluation` and the seed, and nothing else: its digest changes only when something
that it uses does.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import OverrideType
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from . import explain
from .errors import ConfigError
from .gates import Gate

CONFIGS = Path(__file__).resolve().parents[3] / "configs"
HYDRA = threading.Lock()
"""Hydra keeps its search path in a global: one composition at a time."""


class PhaseSettings(BaseModel):
    """What every phase can be told; each phase's `Settings` adds its own. Unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    threads: int = Field(
        2, ge=1, description="CPU threads for torch; another number may change the last bits"
    )
    checkpoint_seconds: float = Field(30.0, ge=0, description="seconds of work that a kill may cost")
    gates: list[Gate] = Field(default_factory=list, description="conditions on the result, see gates.py")


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
        """The same without the gates, which change what is published but not how it is made."""
        return self._digest_without("checkpoint_seconds", "gates")

    def _digest_without(self, *names: str) -> str:
        section = {key: value for key, value in self.tree[self.phase].items() if key not in names}
        return digest_of_tree({**self.tree, self.phase: section})


def digest_of_tree(tree: dict[str, Any]) -> str:
    """sha256 of canonical JSON: sorted keys, no spaces."""
    text = json.dumps(tree, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def phases(configs: Path = CONFIGS) -> list[str]:
    """The phases that have defaults in configs/phase."""
    return sorted(path.stem for path in (configs / "phase").glob("*.yaml"))


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
    tree = _compose_tree(profile, overrides, configs)
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
    if phase not in tree:
        raise ConfigError(
            f"there are no settings for phase {phase!r}", where=str(configs / "phase" / f"{phase}.yaml")
        )
    files = [
        (configs / "profile" / f"{profile}.yaml", ""),
        (configs / "phase" / f"{phase}.yaml", f"{phase}."),
        (configs / "config.yaml", ""),
    ]
    section, common = _plain(tree, phase), _plain(tree, "evaluation")
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
    tree = _compose_tree(profile, overrides, configs)
    done, problems = [], []
    for phase in phases(configs):
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


def _compose_tree(profile: str, overrides: Sequence[str], configs: Path) -> DictConfig:
    """The whole tree, of all phases, untyped."""
    if not (configs / "config.yaml").is_file():
        raise ConfigError(
            "there is no configuration", where=str(configs), fix="run from a checkout or an image of ours"
        )
    profiles = sorted(path.stem for path in (configs / "profile").glob("*.yaml"))
    if profile not in profiles:
        raise ConfigError(
            f"there is no profile {profile!r}", where=str(configs / "profile"), fix=_choose(profile, profiles)
        )
    try:
        with HYDRA, initialize_config_dir(str(configs), version_base="1.3"):
            base = hydra_compose("config", overrides=[f"profile={profile}"])
            if not overrides:
                return base
            changes = [_checked(override, base, configs) for override in overrides]
            return hydra_compose("config", overrides=[f"profile={profile}", *changes])
    except yaml.MarkedYAMLError as error:
        where = (
            f"{error.problem_mark.name}:{error.problem_mark.line + 1}" if error.problem_mark else str(configs)
        )
        raise ConfigError("a file is not YAML", where=where, why=str(error.problem)) from error
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(
            "the configuration does not compose", where=str(configs), why=_first_line(error)
        ) from error


def _checked(override: str, base: DictConfig, configs: Path) -> str:
    """One override in the form that Hydra takes for a key which may or may not be in the files."""
    where = f"override {override!r}"
    try:
        parsed = OverridesParser.create().parse_override(override)
    except HydraException as error:
        raise ConfigError(
            "an override cannot be read", where=where, why=_first_line(error), fix="write key=value"
        ) from error
    key = str(parsed.key_or_group)
    if key in ("profile", "seed"):
        raise ConfigError(
            f"{key} is no override", where=where, fix=f"use --{key}, or the parameter {key} of the pipeline"
        )
    if parsed.is_sweep_override() or "/" in key or parsed.package is not None:
        raise ConfigError("an override gives one value to one key", where=where, fix="write key=value")
    head, _, rest = key.partition(".")
    if head not in base or not rest:
        sections = sorted(str(name) for name in base if isinstance(base[name], DictConfig))
        known = {f"{name}.{item}" for name in sections for item in base[name]}
        near = explain.close_matches(key, [*sorted(known), *(f"{name}.{rest}" for name in sections if rest)])
        fix = f"did you mean {' or '.join(near[:3])}?" if near else f"begin with one of {', '.join(sections)}"
        raise ConfigError(f"there is no setting {key!r}", where=where, fix=fix)
    if parsed.type == OverrideType.DEL:
        return override
    return "++" + override.lstrip("+")


def _plain(tree: DictConfig, section: str) -> Any:
    """One section as plain JSON, its interpolations resolved."""
    try:
        node = tree[section]
        return OmegaConf.to_container(node, resolve=True, throw_on_missing=True) if node is not None else {}
    except (OmegaConfBaseException, ValueError) as error:
        raise ConfigError("a value cannot be resolved", where=section, why=_first_line(error)) from error


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
            source = explain.source_of(key, overrides, files)
            value = json.dumps(found["input"], ensure_ascii=False)
            if found["type"] == "extra_forbidden":
                names = explain.keys(schema, location[:-1])
                problems.append(f"{key} is unknown [{source}], {_choose(str(location[-1]), names)}")
            elif found["type"] == "missing":
                problems.append(f"{key} is not set, allowed: {explain.allowed(schema, location)}")
            else:
                words = explain.allowed(schema, location)
                detail = f"allowed: {words}" if words else ""
                if found["type"] in ("value_error", "assertion_error") or not words:
                    detail = found["msg"].removeprefix("Value error, ")
                elif isinstance(found["input"], str) and words.startswith("one of "):
                    near = explain.close_matches(found["input"], words.removeprefix("one of ").split(", "))
                    detail += f"; did you mean {near[0]}?" if near else ""
                problems.append(f"{key} = {value} [{source}], {detail}")
        return None


def _choose(word: str, words: Sequence[str]) -> str:
    """What to write in place of `word`: the words that look like it, or else all of them."""
    near = explain.close_matches(word, words)
    return f"did you mean {' or '.join(near)}?" if near else f"allowed: {', '.join(words) or 'no keys'}"


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0]
