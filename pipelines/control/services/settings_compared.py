"""The settings of runs side by side: which differ from one run to another, and from the run's profile."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from pydantic import BaseModel
from sqlalchemy import select

from components.shared.runtime.errors import ConfigError

from ..context import Control
from ..store.tables import run
from .comparison import Comparison, compare
from .runs import Run, row_of_run, shown

ABSENT = "–"
"""In the place of a value that a run has not got."""


class Setting(BaseModel):
    """A setting that is not the same everywhere.

    :param values: run → what it has.
    :param profile_values: run → what its profile says.
    :param between: it differs from one run to another; else only from the profile.
    """

    key: str
    values: dict[str, Any]
    profile_values: dict[str, Any]
    between: bool


class RunsCompared(Comparison):
    """Runs side by side: what they are, what they were told, what they came to."""

    rows: list[Run]
    settings: list[Setting]


async def compared(control: Control, names: list[str]) -> RunsCompared:
    """Runs side by side.

    :raises Refused: one of them is not there.
    """
    common = await compare(control, names, [], models=True)
    rows = [shown(control, await row_of_run(control, name)) for name in names]
    async with control.database.read() as connection:
        found = await connection.execute(
            select(run.c.id, run.c.profile, run.c.seed, run.c.parameters).where(run.c.id.in_(names))
        )
        told = {row.id: (row.profile, row.seed, row.parameters) for row in found}
    settings = await asyncio.to_thread(differing, {name: told[name] for name in names})
    return RunsCompared(**common.model_dump(), rows=rows, settings=settings)


def differing(told: Mapping[str, tuple[str, int | None, Mapping[str, Any]]]) -> list[Setting]:
    """The settings that are not the same everywhere.

    :param told: run → its profile, its seed, its pipeline's parameters.
    """
    values = {name: _values(parameters) for name, (_, _, parameters) in told.items()}
    profiles = {name: _of_profile(profile) for name, (profile, _, _) in told.items()}
    settings = []
    for key in sorted({key for own in values.values() for key in own}):
        own = {name: values[name].get(key, ABSENT) for name in told}
        base = {name: profiles[name][key] for name in told if key in profiles[name]}
        between = any(value != next(iter(own.values())) for value in own.values())
        if between or any(own[name] not in (value, ABSENT) for name, value in base.items()):
            settings.append(Setting(key=key, values=own, profile_values=base, between=between))
    return settings


def _values(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """All settings of a run, each by its path; a parameter that holds none, by its name."""
    try:
        from ...settings import from_parameters  # with Hydra: only where it is asked for

        configs = from_parameters(parameters)
    except ConfigError:  # of an older version of the phases: compared as they are
        configs = {}
    flat = dict(_flat({phase: config.settings.model_dump(mode="json") for phase, config in configs.items()}))
    others = {
        name: value for name, value in parameters.items() if not name.endswith("_settings") or not configs
    }
    return {**others, **flat}


@lru_cache(maxsize=16)
def _of_profile(profile: str) -> Mapping[str, Any]:
    """What a profile of the project says, composed once in a process: Hydra takes half a second for it."""
    try:
        from ...settings import composed

        configs = composed(profile=profile) if profile else {}
    except ConfigError:  # a profile that is not here any more
        return {}
    return dict(_flat({phase: config.settings.model_dump(mode="json") for phase, config in configs.items()}))


def _flat(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        name = f"{above}.{key}" if above else str(key)
        if isinstance(value, Mapping) and value:
            yield from _flat(value, name)
        else:
            yield name, value
