"""Settings that name tasks and levels: a wrong one is refused where a run is asked for, and not where it would be drawn.

    tasks: Weights        {chain: 3, max: 0.5}
    levels: Levels        [1, 2] for all tasks, or {chain: [1, 2], max: [1]}

Nothing is drawn here, and nothing heavy imported: a pipeline is compiled without torch and numpy.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated

from pydantic import AfterValidator, Discriminator, Field, Tag

from components.shared.runtime.errors import ConfigError

from .generators.text import FILE
from .item import LEVELS
from .registry import find


def _known(name: str) -> str:
    """A task's name, or `file:PATH`, whose file is looked for where the phase runs.

    :raises ValueError: there is no such task.
    """
    try:
        if not name.startswith(FILE):
            find(name)
    except ConfigError as error:
        raise ValueError(f"{error.what}, {error.fix}") from error
    return name


def _drawn(weights: dict[str, float]) -> dict[str, float]:
    """Weights by which something can be drawn.

    :raises ValueError: all of them are zero.
    """
    if weights and not any(weights.values()):
        raise ValueError("no task has a weight above 0")
    return weights


TaskName = Annotated[str, AfterValidator(_known)]
Level = Annotated[int, Field(ge=LEVELS[0], le=LEVELS[-1])]
LevelList = Annotated[list[Level], Field(min_length=1)]
Levels = Annotated[
    Annotated[LevelList, Tag("all")] | Annotated[dict[TaskName, LevelList], Field(min_length=1), Tag("each")],
    Discriminator(lambda levels: "each" if isinstance(levels, dict) else "all"),
]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Weights = Annotated[dict[TaskName, Weight], AfterValidator(_drawn)]


def require_levels(tasks: Iterable[str], levels: Sequence[int] | dict[str, list[int]]) -> None:
    """Refuse a mixture in which a task has no levels.

    :raises ValueError: it names the tasks.
    """
    missing = [task for task in tasks if isinstance(levels, dict) and task not in levels]
    if missing:
        raise ValueError(f"there are no levels for {', '.join(missing)}")
