"""Profiles: those of the project, and those that people keep: a project's profile, and what they change of it.

    runs/control/profiles/<name>.json  {"base": "small", "overrides": ["bitnet.steps=100"], "description": "…"}

Wherever a profile is asked for, `expanded` turns one of these into what the phases know.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from components.shared.runtime.atomic import write_atomically
from components.shared.runtime.code import CONFIGS
from components.shared.runtime.errors import ConfigError
from components.shared.runtime.wording import did_you_mean

from ..errors import not_found
from ..settings import ControlSettings

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,47}")
MOST = 200


class UserProfile(BaseModel):
    """What somebody changes of a project's profile.

    :param base: a profile of the project.
    :param overrides: `section.key=value`.
    """

    model_config = ConfigDict(extra="forbid")
    base: str = Field("tiny", max_length=48)
    overrides: list[str] = Field(default_factory=list, max_length=200)
    description: str = Field("", max_length=400)


class Profile(UserProfile):
    """A profile.

    :param builtin: of the project: it cannot be changed here.
    """

    name: str
    builtin: bool


def builtin(configs: Path = CONFIGS) -> list[str]:
    """The project's profiles, by name."""
    return sorted(path.stem for path in (configs / "profile").glob("*.yaml"))


def every(settings: ControlSettings) -> list[Profile]:
    """All profiles, the project's first."""
    own = [
        _read(path)
        for path in sorted(_folder(settings).glob("*.json"))[:MOST]
        if NAME.fullmatch(path.stem) and not path.is_symlink()
    ]
    return [*(_builtin(name) for name in builtin()), *own]


def find(settings: ControlSettings, name: str) -> Profile:
    """A profile.

    :raises Refused: there is none of this name.
    """
    if name in builtin():
        return _builtin(name)
    path = _folder(settings) / f"{name}.json"
    if not NAME.fullmatch(name) or not path.is_file():
        known = [profile.name for profile in every(settings)]
        raise not_found("there is no such profile", name[:100], did_you_mean(name[:100], known))
    return _read(path)


def keep(settings: ControlSettings, name: str, profile: UserProfile) -> Profile:
    """Keep a profile that was checked (effective_settings.py) under a name.

    :raises ConfigError: the name is the project's, or none; there are too many.
    """
    if not NAME.fullmatch(name) or name in builtin():
        raise ConfigError(
            "a profile cannot be called so", where=name[:100],
            why="it is one of the project's" if name in builtin() else "letters, digits, _ and - only, 48 at most",
            fix="give another name",
        )  # fmt: skip
    path = _folder(settings) / f"{name}.json"
    if not path.exists() and len(list(_folder(settings).glob("*.json"))) >= MOST:
        raise ConfigError(
            f"there are {MOST} profiles already", where=str(_folder(settings)), fix="remove some"
        )
    write_atomically(path, profile.model_dump_json(indent=1) + "\n")
    return Profile(name=name, builtin=False, **profile.model_dump())


def expanded(settings: ControlSettings, profile: str, overrides: Sequence[str]) -> tuple[str, list[str]]:
    """A profile of the project and overrides that say the same as any profile and overrides.

    :raises Refused: there is no such profile.
    """
    found = find(settings, profile)
    return (found.base, [*found.overrides, *overrides]) if not found.builtin else (profile, list(overrides))


def _folder(settings: ControlSettings) -> Path:
    return settings.folder / "profiles"


def _builtin(name: str) -> Profile:
    lines = (CONFIGS / "profile" / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    said = [line.lstrip("# ") for line in lines[1:] if line.startswith("#")]
    return Profile(name=name, builtin=True, base=name, description=" ".join(said)[:400])


def _read(path: Path) -> Profile:
    try:
        kept = UserProfile.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise ConfigError(
            "a profile is damaged",
            where=str(path),
            why=str(error)[:300],
            fix="store it again, or remove the file",
        ) from error
    return Profile(name=path.stem, builtin=False, **kept.model_dump())
