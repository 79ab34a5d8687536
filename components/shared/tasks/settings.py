"""Settings that name tasks and levels: a wrong one is refused where a run is asked for, and not where it would be drawn.

    tasks: Weights        {chain: 3, max: 0.5}
    tasks: TextWeights    the same, with corpora beside the tasks: {chain: 3, corpus:/data/wiki: 1}
    tasks: HandedOn       ${cognate.standard.tasks}, the tasks of a mixture that may have corpora
    tasks: Weights        puzzles, or {mixture:puzzles: 1, chain: 2}: a mixture of mixtures.py
    levels: Levels        [1, 2] for all tasks, or {chain: [1, 2], max: [1]}

Nothing is drawn here, and nothing heavy imported: a pipeline is compiled without torch and numpy.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag

from components.shared.runtime.errors import ConfigError

from .corpora import corpus_address, is_corpus, require_task, tasks_of
from .generators.text import FILE
from .item import LEVELS
from .mixtures import spread, spread_levels
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


def _known_or_corpus(name: str) -> str:
    """As `_known`, or `corpus:ADDRESS`, which is looked for where the phase runs.

    :raises ValueError: there is no such task, or it is no such address.
    """
    if not is_corpus(name):
        return _known(name)
    try:
        corpus_address(name)
    except ConfigError as error:
        raise ValueError(f"{error.what}, {error.fix}") from error
    return name


def _with_task(weights: dict[str, float]) -> dict[str, float]:
    """Weights of which one at least is a task's.

    :raises ValueError: all of them are of corpora.
    """
    require_task(weights)
    return weights


def _without_corpora(weights: Any) -> Any:
    """A mixture without its corpora; what is no map, or of corpora alone, comes back for others to refuse."""
    if not isinstance(weights, Mapping) or not all(isinstance(name, str) for name in weights):
        return weights
    return tasks_of(weights) or weights


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
    BeforeValidator(spread_levels),
]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Weights = Annotated[dict[TaskName, Weight], BeforeValidator(spread), AfterValidator(_drawn)]
TextWeights = Annotated[
    dict[Annotated[str, AfterValidator(_known_or_corpus)], Weight],
    BeforeValidator(spread),
    AfterValidator(_drawn),
    AfterValidator(_with_task),
]

HandedOn = Annotated[Weights, BeforeValidator(_without_corpora)]
"""The mixture of another phase, of which this one draws the tasks: it learns from items alone."""


def require_levels(tasks: Iterable[str], levels: Sequence[int] | dict[str, list[int]]) -> None:
    """Refuse a mixture in which a task has no levels; a corpus needs none.

    :raises ValueError: it names the tasks.
    """
    missing = [
        task for task in tasks if isinstance(levels, dict) and task not in levels and not is_corpus(task)
    ]
    if missing:
        raise ValueError(f"there are no levels for {', '.join(missing)}")
