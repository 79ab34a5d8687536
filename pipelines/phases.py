"""The phases in the order in which they run, as their folders say, and where the compiled pipeline of all of them lies.

A phase is a package below components/ whose component.py declares `PHASE`. It is found by looking; there is no list.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import components
from components.shared.phase_spec import PhaseSpec
from components.shared.runtime.errors import ConfigError
from components.shared.runtime.wording import did_you_mean


def discovered(folders: Sequence[str] | None = None) -> list[PhaseSpec]:
    """What the packages below these folders declare, in the order of their names.

    :param folders: of the package `components`; by default where it is.
    :raises ConfigError: a component.py without PHASE, or one that is called otherwise than its folder.
    """
    specs = []
    for package in pkgutil.iter_modules(folders or components.__path__):
        folder = Path(package.module_finder.path, package.name)  # type: ignore[union-attr]
        if not (folder / "component.py").is_file():
            continue
        spec = getattr(importlib.import_module(f"components.{package.name}.component"), "PHASE", None)
        if not isinstance(spec, PhaseSpec) or spec.name != package.name:
            why = "it declares no PHASE" if spec is None else f"its PHASE is {spec!r}"
            fix = f'write PHASE = PhaseSpec(name="{package.name}", …) there'
            raise ConfigError(
                "a phase does not declare itself", where=str(folder / "component.py"), why=why, fix=fix
            )
        specs.append(spec)
    return specs


def in_order(specs: Sequence[PhaseSpec]) -> dict[str, PhaseSpec]:
    """The chain of the phases: name → spec, each after the one that it names.

    :raises ConfigError: a name twice, an unknown `after`, two phases after the same one, a circle, no first phase.
    """
    names = [spec.name for spec in specs]
    followers: dict[str, PhaseSpec] = {}
    for spec in specs:
        where = f"components/{spec.name}/component.py"
        if names.count(spec.name) > 1:
            raise ConfigError(f"there are two phases {spec.name!r}", where=where, fix="rename one")
        if spec.after and spec.after not in names:
            raise ConfigError(
                f"phase {spec.name} comes after {spec.after!r}, which there is not",
                where=where,
                fix=did_you_mean(spec.after, names),
            )
        if spec.after in followers:
            other, place = followers[spec.after].name, f"after {spec.after}" if spec.after else "first"
            raise ConfigError(
                f"phases {other} and {spec.name} both come {place}",
                where=where,
                fix=f'write after="{other}" here, or after="{spec.name}" in components/{other}/component.py',
            )
        followers[spec.after] = spec
    chain: dict[str, PhaseSpec] = {}
    last = ""
    while last in followers:
        spec = followers[last]
        chain[spec.name] = spec
        last = spec.name
    if circle := [name for name in names if name not in chain]:
        raise ConfigError(
            f"phases {', '.join(circle)} come after one another in a circle",
            where="components/*/component.py",
            fix="one of them comes after a phase outside it",
        )
    return chain


SPECS: Mapping[str, PhaseSpec] = in_order(discovered())
"""Every phase, by its name, in the order in which they run."""

PHASES = tuple(SPECS)

PARENTS, WORKERS, ROUNDS = 3, 2, 2
"""In the committed pipeline: models that evomerge merges, its workers side by side, and its barriers."""

COMPILED = Path(__file__).with_name("agent_forge.yaml")
"""The pipeline as it is committed: all phases, PARENTS, WORKERS, ROUNDS, the cluster settings `default`."""


def between(first: str = PHASES[0], last: str = PHASES[-1]) -> tuple[str, ...]:
    """The phases from `first` to `last`, both included.

    :raises ConfigError: an unknown name, or `first` comes after `last`.
    """
    for name in (first, last):
        if name not in SPECS:
            raise ConfigError(f"there is no phase {name!r}", fix=did_you_mean(name, PHASES))
    start, end = PHASES.index(first), PHASES.index(last)
    if start > end:
        raise ConfigError(f"phase {first} comes after phase {last}", fix=f"the order is {' → '.join(PHASES)}")
    return PHASES[start : end + 1]


def remaining(phases: Sequence[str], without: Sequence[str]) -> tuple[str, ...]:
    """The phases of a range without those that are left out.

    :raises ConfigError: an unknown name, or the first of the range is to be left out.
    """
    for name in without:
        if name not in SPECS:
            raise ConfigError(f"there is no phase {name!r}", fix=did_you_mean(name, PHASES))
        if name == phases[0]:
            raise ConfigError(
                f"phase {name} is the first, and cannot be left out",
                where=f"without {name}",
                fix="start with a later one: --from, with --artifact",
            )
    return tuple(phase for phase in phases if phase not in without)


def several(phase: str) -> bool:
    """Whether the phase starts from several models."""
    return SPECS[phase].takes == "models"
