"""A run's request as a file, JSON or YAML: the options of `forge run-pipeline`, and the settings of phases.

profile: small
seed: 7
base_models: [standard, ./my-model]
enable_compression: false
generations: 8
bitnet: {steps: 100, lr: 0.002}
evaluation: {items: 64}

plan = prepare(request(**read(Path("config.yaml"))))
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from components.shared.runtime.config.literal import literal
from components.shared.runtime.errors import ConfigError
from components.shared.runtime.wording import did_you_mean

from .phases import PHASES, ROUNDS, WORKERS, between

NAME = re.compile(r"[A-Za-z_][\w-]*", re.ASCII)

SECTIONS = (*PHASES, "evaluation")
"""Keys that hold settings: those of each phase, and of the suites."""


class RequestFile(BaseModel):
    """The keys of the file that are options; each is called as on the command line."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    profile: str | None = None
    seed: int | None = None
    overrides: list[str] = []
    base_models: list[str] = []
    base_dtype: str = ""
    artifacts: list[str] = []
    first: str = Field(PHASES[0], alias="from")
    last: str = Field(PHASES[-1], alias="to")
    without: list[str] = []
    enable_evomerge: bool = True
    enable_compression: bool = True
    generations: int | None = Field(None, ge=1)
    rounds: int = Field(ROUNDS, ge=1)
    workers: int = Field(WORKERS, ge=1)
    name: str = ""
    output_dir: str = "runs"
    store: str = ""
    slots: int = Field(0, ge=0)
    cache: bool = True
    parameters: dict[str, Any] = {}
    register_as: str = ""
    experiment: str = ""


DEFAULTS = {
    "first": PHASES[0],
    "last": PHASES[-1],
    "rounds": ROUNDS,
    "workers": WORKERS,
    "runs": Path("runs"),
    "cache": True,
    "slots": 0,
}
"""What an option of the command line is that was not given."""

OPTIONS = tuple(field.alias or name for name, field in RequestFile.model_fields.items())


def read(path: Path) -> dict[str, Any]:
    """The file as the arguments of `pipelines.api.request`. Settings are checked when a plan is made of it.

    :raises ConfigError: no such file, no JSON or YAML, an unknown key, or a value that does not fit.
    """
    return _request(_options(path))


def merged(path: Path | None, options: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of `pipelines.api.request`, from a file and the options of a command, which win.

    :param options: those arguments, with `generations` and `enabled` in place of what they become. One that is as it is
        when it is not given changes nothing.
    :raises ConfigError: see `read`; or phases are switched on, or set, that the run leaves out.
    """
    base = _options(path) if path is not None else {}
    changed = {
        name: value
        for name, value in options.items()
        if value not in (DEFAULTS.get(name), [], {}, (), None, "")
    }
    enabled = {phase: on for phase, on in options.get("enabled", {}).items() if on is not None}
    together = {**base, **changed, "enabled": {**base.get("enabled", {}), **enabled}}
    together["without"] = [*base.get("without", []), *options.get("without", [])]
    together["overrides"] = [*base.get("overrides", []), *options.get("overrides", [])]
    _check_enabled(together, enabled)
    return _request(together)


def _options(path: Path) -> dict[str, Any]:
    """The file as the options that `merged` takes."""
    content = _content(path)
    for key in content:
        if key not in (*OPTIONS, *SECTIONS):
            fix = did_you_mean(str(key), [*OPTIONS, *SECTIONS])
            raise ConfigError(f"there is no option and no section {key!r}", where=str(path), fix=fix)
    sections = {key: value for key, value in content.items() if key in SECTIONS}
    for key, value in sections.items():
        if not isinstance(value, Mapping):
            raise ConfigError(
                f"the section {key} holds no settings",
                where=str(path),
                fix=f"write {key}: {{setting: value}}",
            )
    try:
        options = RequestFile(**{key: value for key, value in content.items() if key not in SECTIONS})
    except ValidationError as error:
        first = error.errors()[0]
        where = f"{path}, {'.'.join(map(str, first['loc']))}"
        raise ConfigError(
            "an option does not fit",
            where=where,
            why=first["msg"],
            fix="forge run-pipeline --help says what it takes",
        ) from error
    known = options.model_dump(exclude={"enable_evomerge", "enable_compression", "output_dir"})
    return {
        **known,
        "runs": Path(options.output_dir),
        "overrides": [*options.overrides, *overrides_of(sections)],
        "enabled": {"evomerge": options.enable_evomerge, "compression": options.enable_compression},
    }


def _request(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options as arguments of `pipelines.api.request`: switches are phases left out, generations a setting."""
    request = {name: value for name, value in options.items() if name not in ("enabled", "generations")}
    switched_off = [phase for phase, on in options.get("enabled", {}).items() if not on]
    request["without"] = list(dict.fromkeys([*options.get("without", []), *switched_off]))
    if options.get("generations") is not None:
        request["overrides"] = [
            *request.get("overrides", []),
            f"evomerge.generations={options['generations']}",
        ]
    return request


def _check_enabled(options: Mapping[str, Any], asked: Mapping[str, bool]) -> None:
    """Refuse what would have no effect.

    :param asked: the phases that are switched on or off on the command line.
    :raises ConfigError: a phase is switched on that lies outside of the range, or evomerge is set and left out.
    """
    phases = between(options.get("first", PHASES[0]), options.get("last", PHASES[-1]))
    for phase, on in asked.items():
        if on and phase not in phases:
            raise ConfigError(
                f"phase {phase} is switched on, and is not among those that run",
                where=f"--enable-{phase}", why=f"they are {', '.join(phases)}", fix="change --from or --to",
            )  # fmt: skip
    off = set(options["without"])
    for phase, on in asked.items():
        if on and phase in off:
            raise ConfigError(
                f"phase {phase} is switched on, and left out",
                where=f"--enable-{phase}, --without {phase}", fix="give one of them",
            )  # fmt: skip
    running = options["enabled"].get("evomerge", True) and "evomerge" in phases and "evomerge" not in off
    if options.get("generations") is not None and not running:
        raise ConfigError(
            "there are generations, and evomerge does not run", where="--generations", fix="leave it out"
        )


def overrides_of(sections: Mapping[str, Any], above: str = "") -> Iterator[str]:
    """Nested settings as overrides, `phase.key=value`: maps are merged into what is set, all else takes its place.

    A map with a key that is no name, such as `corpus:/data/wiki`, is one value.
    """
    for key, value in sections.items():
        name = f"{above}.{key}" if above else str(key)
        if isinstance(value, Mapping) and value and all(map(NAME.fullmatch, map(str, value))):
            yield from overrides_of(value, name)
        else:
            yield f"{name}={literal(value, references=True)}"


def _content(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigError(
            "the file cannot be read", where=str(path), why=error.strerror or str(error), fix="check its name"
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(
            "the file is not text in UTF-8", where=str(path), why=str(error), fix="save it as UTF-8"
        ) from error
    try:
        if path.suffix != ".json" and any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text)):
            raise ValueError("it uses an alias (*name); a few of them may stand for any amount of data")
        content = (
            json.loads(text) if path.suffix == ".json" else OmegaConf.to_container(OmegaConf.create(text))
        )
    except (ValueError, RecursionError, yaml.YAMLError, OmegaConfBaseException) as error:
        kind = "JSON" if path.suffix == ".json" else "YAML"
        raise ConfigError(
            f"the file is not {kind}", where=str(path), why=str(error), fix="mend the line that it names"
        ) from error
    if not isinstance(content, dict):
        raise ConfigError("the file holds no keys", where=str(path), fix="write profile: tiny, and so on")
    return {str(key): value for key, value in content.items()}
