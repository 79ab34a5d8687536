"""The settings of phase evomerge. Imports nothing heavy: the pipeline reads them without torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from components.shared.merging.registry import merge_method, merge_methods
from components.shared.runtime.config.settings import PhaseSettings, SuiteName
from components.shared.runtime.errors import ConfigError


class Settings(PhaseSettings):
    """How parents are merged and how the search goes."""

    base: str = Field(
        "",
        description="folder or s3:// address of the model that the parents were trained from; "
        "empty: the trunk that they carry",
    )
    methods: tuple[str, ...] = Field(
        default_factory=lambda: tuple(name for name, method in merge_methods().items() if method.searched),
        min_length=1,
        description="what the search may use; what the parents do not allow is left out, and that is said",
    )
    calibration_items: int = Field(
        16, ge=2, description="items of each suite that has a train split, to which FeatCal fits the layers"
    )
    layer_groups: int = Field(
        ge=1, description="runs of layers with weights of their own; what is no layer is one more group"
    )
    repeats: int = Field(
        1, ge=1, le=4, description="how often a path may go through the row of all layers (DFS's r)"
    )
    extra_layers: int = Field(
        0, ge=0, description="how many layers deeper than a parent a path may make the model"
    )
    fan_out: Literal["islands", "evaluations"] = Field(
        description="what workers share: islands live on their own between rounds; or the evaluations of one "
        "population, a generation a round"
    )
    population: int = Field(ge=2, description="members of one island, or of the one population")
    generations: int = Field(
        ge=0, description="generations of every island, over all rounds; or as many as there are rounds"
    )
    rounds: int = Field(
        ge=1, description="barriers, after which champions migrate (by hand; a pipeline has its own)"
    )
    islands: int = Field(
        ge=1, description="islands when one process does everything; in a pipeline, its workers"
    )
    strategies: tuple[Literal["genetic", "catcma"], ...] = Field(
        ("genetic",), min_length=1, description="how islands make children, dealt out in turn"
    )
    collapse: float = Field(
        0.05, ge=0, le=1, description="diversity below which all but the champion are drawn anew"
    )
    patience: int = Field(
        12, ge=1, description="an island stops after so many generations without a better genome"
    )
    suites: tuple[SuiteName, ...] = Field(
        ("reasoning", "memory", "generalization", "safety"),
        min_length=1,
        description="what fitness is the mean of",
    )
    items: int = Field(ge=2, description="items of each suite, search split")
    fitness: Literal["likelihood", "accuracy"] = Field(
        "likelihood", description="mean probability of an answer's token, or share of right answers"
    )
    finalists: int = Field(
        ge=1, description="best genomes of the search among which the select split chooses the champion"
    )
    select_items: int = Field(ge=2, description="items of each suite, select split")

    @field_validator("methods")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            try:
                method = merge_method(name)
            except ConfigError as error:
                raise ValueError(f"{error.what}; {error.fix}") from error
            if method.most is not None:
                raise ValueError(f"{name} merges one model, and the search merges several: leave it out")
        return names

    @model_validator(mode="after")
    def _distinct(self) -> Settings:
        for name in ("methods", "suites"):
            values = getattr(self, name)
            if len(set(values)) != len(values):
                raise ValueError(f"{name} names something twice: {', '.join(values)}")
        return self

    @model_validator(mode="after")
    def _one_strategy(self) -> Settings:
        if self.fan_out == "evaluations" and len(self.strategies) > 1:
            names = ", ".join(self.strategies)
            raise ValueError(
                f"with fan_out=evaluations one population has one strategy, and strategies has {names}: give one of them"
            )
        return self


def check_fan_out(settings: Settings, rounds: int, workers: int) -> None:
    """Refuse a fan-out that cannot be.

    :param rounds: how many barriers there are.
    :param workers: of a round.
    :raises ConfigError: no workers; or evaluations are shared out, and there are not as many rounds as generations.
    """
    if workers < 1:
        raise ConfigError(f"{workers} workers share the search", where="workers", fix="give 1 or more")
    generations = settings.generations
    if settings.fan_out == "evaluations" and rounds != generations:
        raise ConfigError(
            f"{generations} generations do not fit into {rounds} rounds",
            where="evomerge.fan_out=evaluations",
            why="there a round is one generation",
            fix=f"give {rounds} generations, or {generations} rounds; rounds of several generations are what "
            "evomerge.fan_out=islands has",
        )
