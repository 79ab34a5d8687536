"""The settings as they would be used: every value, who set it, and what differs from the profile."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from components.shared.runtime.code import CONFIGS
from components.shared.runtime.errors import ConfigError

from ...phases import PHASES
from ..cache.key import Key
from ..context import Control
from .profiles import expanded

DEFAULT = "the default in settings.py"


class Difference(BaseModel):
    """A value that is not the profile's."""

    key: str
    value: Any
    profile_value: Any


class PhaseSettings(BaseModel):
    """What one phase would be told.

    :param digest: of the settings: the same digest is the same work.
    :param origins: key → the override, the file and its line, or the default that gave its value.
    """

    digest: str
    values: dict[str, Any]
    origins: dict[str, str]


class Validity(BaseModel):
    """Whether settings fit, and what they come to.

    :param issues: everything that is wrong, in words: key, value, who set it, what is allowed, what looks like it.
    :param differences: to the profile without overrides.
    """

    is_valid: bool
    issues: list[str]
    profile: str
    base: str
    seed: int | None = None
    phases: dict[str, PhaseSettings]
    evaluation: dict[str, Any]
    differences: list[Difference]


async def effective(control: Control, profile: str, overrides: Sequence[str], seed: int | None) -> Validity:
    """What a profile and overrides come to.

    :raises Refused: there is no such profile.
    """
    base, changes = await asyncio.to_thread(expanded, control.settings, profile, overrides)

    async def compute() -> dict[str, Any]:
        found = await asyncio.to_thread(_effective, profile, base, changes, seed, unchanged)
        return found.model_dump()

    files = await asyncio.to_thread(_files)

    async def plain() -> dict[str, Any]:
        from ...settings import composed  # with Hydra: only where it is asked for, not when a process starts

        configs = await asyncio.to_thread(composed, PHASES, profile=base)
        return {phase: config.tree for phase, config in configs.items()}

    unchanged = await control.cache.json(Key.of("profile", files, base), plain)
    key = Key.of("settings", files, profile, base, changes, seed)
    return Validity(**await control.cache.json(key, compute))


def _files() -> list[list[Any]]:
    """The files that settings are composed of, so that a changed one is another key."""
    return [
        [str(path.relative_to(CONFIGS)), path.read_text(encoding="utf-8")]
        for path in sorted(CONFIGS.rglob("*.yaml"))
    ]


def _effective(
    profile: str, base: str, overrides: list[str], seed: int | None, plain: Mapping[str, Any]
) -> Validity:
    """What they come to.

    :param plain: phase → what the profile alone comes to.
    """
    from ...settings import composed

    try:
        configs = composed(PHASES, profile=base, overrides=overrides, seed=seed)
    except ConfigError as error:
        return Validity(
            is_valid=False,
            issues=_issues(error),
            profile=profile,
            base=base,
            phases={},
            evaluation={},
            differences=[],
        )
    lines = _lines(base)
    phases, differences = {}, list[Difference]()
    for phase, config in configs.items():
        values, before = config.tree[phase], plain[phase][phase]
        origins = {key: _origin(f"{phase}.{key}", overrides, lines) for key, _ in leaves(values)}
        phases[phase] = PhaseSettings(digest=config.digest, values=values, origins=origins)
        differences += _differences(phase, values, before)
    evaluation = next(iter(configs.values())).tree["evaluation"]
    differences += _differences("evaluation", evaluation, next(iter(plain.values()))["evaluation"])
    return Validity(
        is_valid=True, issues=[], profile=profile, base=base, seed=next(iter(configs.values())).seed, phases=phases,
        evaluation=evaluation, differences=differences,
    )  # fmt: skip


def leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The values of a tree by dotted keys; a list is one value."""
    for name, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _differences(section: str, values: Mapping[str, Any], before: Mapping[str, Any]) -> list[Difference]:
    now, then = dict(leaves(values)), dict(leaves(before))
    return [
        Difference(key=f"{section}.{key}", value=now.get(key), profile_value=then.get(key))
        for key in {**then, **now}
        if now.get(key) != then.get(key)
    ]


def _issues(error: ConfigError) -> list[str]:
    text = error.what if "\n" in error.what else str(error)
    return [line.strip() for line in text.splitlines() if line.strip()][:100]


def _origin(key: str, overrides: Sequence[str], lines: Mapping[str, str]) -> str:
    """Who set a key last: an override, a line of a file, the phase's own default."""
    for override in reversed(overrides):
        name = override.lstrip("+~").split("=", 1)[0]
        if name == key or key.startswith(f"{name}."):
            return f"override '{override}'"
    parts = key.split(".")
    return next(
        (lines[".".join(parts[:end])] for end in range(len(parts), 1, -1) if ".".join(parts[:end]) in lines),
        DEFAULT,
    )


def _lines(profile: str) -> dict[str, str]:
    """Dotted key → file and line, of all files that take part; a stronger file's take the place of a weaker one's."""
    found: dict[str, str] = {}
    files = [
        (CONFIGS / "config.yaml", ""),
        *((CONFIGS / "phase" / f"{phase}.yaml", f"{phase}.") for phase in PHASES),
        (CONFIGS / "profile" / f"{profile}.yaml", ""),
    ]
    for path, prefix in files:
        node = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
        found |= dict(_keys(node, prefix, path))
    return found


def _keys(node: yaml.Node | None, prefix: str, path: Path) -> Iterator[tuple[str, str]]:
    if isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            key = f"{prefix}{name.value}"
            yield key, f"{path.parent.name}/{path.name}:{name.start_mark.line + 1}"
            yield from _keys(value, f"{key}.", path)
