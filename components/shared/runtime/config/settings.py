"""The settings of a phase: typed by pydantic, whole, as they reach it.

They are composed once, where a run is submitted (compose.py), and travel as one JSON object: `profile` (a label), the
section `evaluation`, and the phase's own section under its name. A phase validates that object with pydantic alone, and
its digest is what the caches of results go by. Nothing here knows of files or of Hydra.
"""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Generic, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from ..errors import ConfigError
from ..wording import close_matches, did_you_mean
from . import config_errors
from .gate import Gate

MOST_THREADS = 512
"""More than any machine has use for in one process; with very many, torch ends in a segmentation fault."""


class PhaseSettings(BaseModel):
    """What every phase can be told; each phase's `Settings` adds its own. Unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    threads: int = Field(
        2, ge=1, le=MOST_THREADS, description="CPU threads for torch; another number may change the last bits"
    )
    checkpoint_seconds: float = Field(30.0, ge=0, description="seconds of work that a kill may cost")
    gates: list[Gate] = Field(default_factory=list, description="conditions on the result, see gates.py")
    register_as: str = Field(
        "", description="name in MLflow's model registry that the result gets; empty: none"
    )


SUITES = ("reasoning", "memory", "generalization", "efficiency", "safety")
"""The suites by name (evaluation/cells.py says what they ask); a file of items, `file:PATH`, is one too."""
FILE = "file:"
ARC = "arc"
"""ARC's puzzles with two attempts at each are a suite, too; `arc:FOLDER` are those of a folder."""
SEEDS = 4
"""How many seeds draw a suite's items where nothing else is said."""


def _suite(name: str) -> str:
    """A suite's name, `file:PATH`, or `arc:FOLDER`.

    :raises ValueError: there is no such suite.
    """
    if name not in (*SUITES, ARC) and not name.startswith((FILE, f"{ARC}:")):
        raise ValueError(f"there is no suite {name!r}, {did_you_mean(name, (*SUITES, ARC))}")
    return name


SuiteName = Annotated[str, AfterValidator(_suite)]


def _each_once(names: list[str]) -> list[str]:
    """Suites, none of them twice.

    :raises ValueError: one is.
    """
    if len(set(names)) < len(names):
        raise ValueError("a suite is named twice")
    return names


class EvaluationSettings(BaseModel):
    """How the suites are run: the same for every phase, so that scores can be compared."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    suites: Annotated[list[SuiteName], AfterValidator(_each_once)] = Field(
        list(SUITES),
        min_length=1,
        description="what every phase's result is scored on: suites, arc, or file:PATH",
    )
    items: int = Field(ge=2, description="items of each suite")
    seeds: int = Field(
        4,
        ge=1,
        description="seeds that draw the items of a suite in turn; intervals are over items and seeds",
    )
    shots: int | None = Field(
        None,
        ge=0,
        le=64,
        description="training examples in front of every question of a file:PATH, and of the five suites for a model"
        " whose tokenizer is not the byte one; null: none, and four",
    )
    batch: int = Field(ge=1, description="items in one forward pass")
    text: str | None = Field(
        None,
        description="file or address of a held-out text: perplexity and bits per byte on it stand in for scores",
    )
    text_tokens: int = Field(16384, ge=2, description="tokens of that text, from its beginning")
    chat: bool = Field(False, description="ask the stand-in suite `chat`, for models that speak a language")
    apart: list[str] = Field(
        default_factory=list,
        description="what else no training text may hold an item of: tasks, file:PATH, arc; evomerge.suites and "
        "training.target are always among it",
    )


S = TypeVar("S", bound=PhaseSettings)
M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True)
class Config(Generic[S]):
    """All that one phase is told, validated.

    :param settings: the phase's own section.
    :param tree: everything that the phase uses as plain JSON: profile, seed, evaluation, and its section by name.
    """

    phase: str
    profile: str
    seed: int
    settings: S
    evaluation: EvaluationSettings
    tree: dict[str, Any]

    @property
    def parameter(self) -> str:
        """The tree as the JSON text that a task gets as its parameter `settings`.

        The seed is a parameter of its own. What the phase's code takes by default is left out: a text of a kilobyte is
        sixteen in a workflow, which may not grow over a megabyte.
        """
        own, evaluation = (
            part.model_dump(mode="json", exclude_defaults=True) for part in (self.settings, self.evaluation)
        )
        return as_json({"profile": self.profile, "evaluation": evaluation, self.phase: own})

    @property
    def digest(self) -> str:
        """sha256 of the tree, without `checkpoint_seconds`, which changes no result.

        The order of keys counts: a mixture of tasks draws them in the order in which they are named.
        """
        return self._digest_without("checkpoint_seconds")

    @property
    def work_digest(self) -> str:
        """The same without what decides where and whether a result is published, but not how it is made."""
        return self._digest_without("checkpoint_seconds", "gates", "register_as")

    def _digest_without(self, *names: str) -> str:
        section = {key: value for key, value in self.tree[self.phase].items() if key not in names}
        return hashlib.sha256(as_json({**self.tree, self.phase: section}).encode()).hexdigest()


def as_json(tree: Mapping[str, Any]) -> str:
    """Compact JSON, in the order of the mapping."""
    return json.dumps(tree, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def model_of(phase: str) -> type[PhaseSettings]:
    """The pydantic model of a phase's settings.

    :raises ConfigError: the phase has none.
    """
    name = f"components.{phase}.settings"
    try:
        model: type[PhaseSettings] = importlib.import_module(name).Settings
    except ModuleNotFoundError as error:
        if error.name is None or not name.startswith(error.name):
            raise
        raise ConfigError(f"phase {phase!r} has no settings module", where=name) from error
    return model


def parse(
    phase: str, settings: type[S], text: str, seed: int, *, where: str = "parameter settings"
) -> Config[S]:
    """The settings in the JSON text that a task was given.

    :param settings: the phase's pydantic model.
    :param where: what the text is called in errors.
    :raises ConfigError: no such JSON, or all that is wrong in it: key, value, what is allowed, what looks like it.
    """
    fix = f'give one JSON object: {{"profile": …, "evaluation": {{…}}, "{phase}": {{…}}}}'
    try:
        tree = json.loads(text)
        json.dumps(tree, ensure_ascii=False).encode()  # what is no Unicode could not be kept
    except (ValueError, TypeError, RecursionError) as error:
        raise ConfigError("the settings are not JSON", where=where, why=str(error), fix=fix) from error
    if not isinstance(tree, dict):
        raise ConfigError("the settings are no JSON object", where=where, fix=fix)
    known = ("profile", "evaluation", phase)
    if unknown := [name for name in tree if name not in known]:
        why = f"{unknown[0]!r} is unknown, {did_you_mean(unknown[0], known)}"
        raise ConfigError("a section is none of this phase", where=where, why=why, fix=fix)
    profile = tree.get("profile", "")
    if not isinstance(profile, str):
        raise ConfigError(f"the profile is {profile!r}", where=where, fix="give its name")
    return typed(phase, settings, tree, profile=profile, seed=seed, where=where, source=lambda _: where)


def typed(
    phase: str,
    settings: type[S],
    tree: Mapping[str, Any],
    *,
    profile: str,
    seed: int,
    where: str,
    source: Callable[[str], str],
) -> Config[S]:
    """The sections of one phase, validated.

    :param tree: with the sections `evaluation` and `phase`; others are left alone.
    :param source: who set the value of a dotted key.
    :raises ConfigError: see `parse`; or the seed is no integer ≥ 0.
    """
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        raise ConfigError(f"the seed is {seed!r}", where="seed", fix="give an integer ≥ 0")
    problems: list[str] = []
    own = _validate(settings, tree.get(phase, {}), phase, source, problems)
    evaluation = _validate(EvaluationSettings, tree.get("evaluation", {}), "evaluation", source, problems)
    if own is None or evaluation is None:
        if len(problems) == 1:
            raise ConfigError("a setting is wrong", where=where, why=problems[0])
        lines = "\n  ".join(["", *problems])
        raise ConfigError(f"{len(problems)} settings are wrong", where=where, why=lines)
    used = {
        "profile": profile,
        "seed": seed,
        "evaluation": evaluation.model_dump(mode="json"),
        phase: own.model_dump(mode="json"),
    }
    return Config(phase, profile, seed, own, evaluation, used)


def _validate(
    model: type[M], values: Any, section: str, source: Callable[[str], str], problems: list[str]
) -> M | None:
    """The typed section, or None and its problems in words.

    It goes through JSON in strict mode: 1 is a fine float and a list a fine tuple, "1" and true are no
    integers.
    """
    try:
        return model.model_validate_json(json.dumps(values), strict=True)
    except ValidationError as error:
        schema = model.model_json_schema()
        for problem in error.errors(include_url=False):
            key = ".".join([section, *(str(part) for part in problem["loc"])])
            problems.append(_in_words(problem, key, source(key), schema))
        return None


def _in_words(problem: Mapping[str, Any], key: str, source: str, schema: Mapping[str, Any]) -> str:
    """One of pydantic's problems for a person: key, value, who set it, what is allowed or looks like it."""
    location, kind, value = problem["loc"], problem["type"], problem["input"]
    allowed = config_errors.allowed(schema, location)
    if kind == "extra_forbidden":
        names = config_errors.keys(schema, location[:-1])
        return f"{key} is unknown [{source}], {did_you_mean(str(location[-1]), names, none='no keys')}"
    if kind == "missing":
        return f"{key} is not set, allowed: {allowed}"
    if kind in ("value_error", "assertion_error") or not allowed:
        detail = problem["msg"].removeprefix("Value error, ")
    else:
        detail = f"allowed: {allowed}"
        if isinstance(value, str) and allowed.startswith("one of "):
            near = close_matches(value, allowed.removeprefix("one of ").split(", "))
            detail += f"; did you mean {near[0]}?" if near else ""
    if (
        isinstance(value, Mapping) and kind == "value_error"
    ):  # a whole section: its reason names what is wrong in it
        return f"{key} [{source:.300}]: {detail:.1000}"
    return f"{key} = {json.dumps(value, ensure_ascii=False):.300} [{source:.300}], {detail:.1000}"
