"""The settings of phase training: ten stages, and what they share."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from components.shared.optim.kinds import OptimizerKind
from components.shared.runtime.config.settings import PhaseSettings
from components.shared.tasks.corpora import tasks_of
from components.shared.tasks.course import DataKind
from components.shared.tasks.settings import Levels, TextWeights, Weights, require_levels
from components.shared.training.settings import EngineSettings

Kind = Literal["adaptation", "edge_of_chaos", "dreaming", "self_modelling", "stabilisation"]


class Stage(BaseModel):
    """One of the ten stages."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: str
    kind: Kind
    steps: int = Field(ge=1)
    lr: float = Field(1.0, gt=0, description="factor on the phase's learning rate")
    levels: Levels = Field(
        description="difficulties, for all tasks or task by task; at the edge of chaos, those to choose from",
    )
    tasks: TextWeights | None = Field(None, description="task → how often it is drawn; null: as in the phase")
    scratch: float = Field(0.0, ge=0, le=1, description="share of the items that show their worked steps")


class Band(BaseModel):
    """The edge of chaos: where the success rate is held by choosing the difficulty."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    low: float = Field(0.55, ge=0, le=1)
    high: float = Field(0.75, ge=0, le=1)
    memory: float = Field(0.9, ge=0, lt=1, description="how slowly a cell's success rate forgets (EMA)")

    @model_validator(mode="after")
    def _ordered(self) -> Band:
        if self.low >= self.high:
            raise ValueError(f"low ({self.low}) must be below high ({self.high})")
        return self


class CourseSettings(BaseModel):
    """The course of the adaptation stages: a baseline assessment, and ten rungs that are built from it."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    rounds: int = Field(4, ge=1, description="of the assessment; each asks every task at one level")
    items: int = Field(4, ge=1, description="of each task in a round")
    window: int = Field(20, ge=1, description="steps after which the rung may change")
    organic: float = Field(0.1, ge=0, le=0.3, description="share of text")
    retrieval: float = Field(
        0.1, ge=0, le=0.2, description="share of questions that come with what was retrieved for them"
    )
    scenarios: float = Field(0.1, ge=0, le=0.2, description="share of scenarios of several agents")
    sources: dict[DataKind, Weights] = Field(
        default_factory=dict, description="kind → its tasks, with weights; a kind that is left out has ours"
    )


class GrokfastSettings(BaseModel):
    """Grokfast-EMA (arXiv 2405.20233)."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    alpha: float = Field(0.98, ge=0, lt=1)
    strength: float = Field(2.0, ge=0)


class Settings(PhaseSettings):
    """Settings of phase training."""

    stages: list[Stage] = Field(
        min_length=10, max_length=10, description="ten, in the order in which they run"
    )
    tasks: TextWeights = Field(
        min_length=1, description="task, or corpus:ADDRESS → how often it is drawn, in proportion"
    )
    batch: int = Field(64, ge=2, description="items a step")
    rows: int = Field(
        64, ge=1, description="items of like length that pass the network together: less padding, less memory"
    )
    row_tokens: int = Field(
        256, ge=16, description="tokens of a packed row of text, where a mixture names a corpus"
    )
    engine: EngineSettings = Field(EngineSettings(), description="devices, shards, precision, adapters")
    optimizer: OptimizerKind = "muon"
    lr: float = Field(gt=0)
    weight_decay: float = Field(0.0, ge=0)
    grokfast: GrokfastSettings | None = Field(None, description="amplify slow gradients; null: do not")
    clip: float = Field(1.0, gt=0)
    sanity_steps: int = Field(
        8,
        ge=0,
        description="steps in which a known task must be learnt better before training begins; 0: not asked",
    )
    course: CourseSettings | None = Field(
        CourseSettings(),
        description="of the adaptation stages that name no tasks of their own; null: as they say",
    )
    band: Band = Band()
    dreams: int = Field(
        256, ge=1, description="answers of its own that the model replays in a dreaming stage"
    )
    dream_share: float = Field(0.5, gt=0, lt=1, description="share of a dreaming batch that is dreamt")
    dream_temperature: float = Field(1.0, gt=0)
    self_weight: float = Field(
        0.1, ge=0, description="w_s: weight of the prediction of one's own activations"
    )
    average: float = Field(0.95, ge=0, lt=1, description="weight average of the stabilisation stage (EMA)")
    tolerance: float = Field(
        0.02, ge=0, description="rise of the held-out loss, nats a token, that undoes a stage"
    )
    held_out: int = Field(192, ge=16, description="search items that stages are judged on")
    probe_items: int = Field(256, ge=32, description="search items of the geometry probe")
    target: list[str] = Field(
        default_factory=list,
        description="tasks (a name, or file:PATH) that pass_at_1 is measured on; none: all that is trained",
    )
    target_levels: list[int] = Field([1], min_length=1, description="of the target tasks")

    @model_validator(mode="after")
    def _levels_for_all(self) -> Settings:
        for stage in self.stages:
            require_levels(stage.tasks or self.tasks, stage.levels)
        return self

    @model_validator(mode="after")
    def _engine_fits(self) -> Settings:
        self.engine.check_optimizer(self.optimizer)
        self.engine.check_workers("what a step draws depends on how the step before went")
        return self


def all_weights(settings: Settings) -> dict[str, float]:
    """Task → weight among all that is trained: what a stage draws in the phase's place weighs as much as the phase's."""
    weights = tasks_of(settings.tasks)
    total = sum(weights.values())
    for stage in settings.stages:
        own = tasks_of(stage.tasks or {})
        for task, weight in own.items():
            weights[task] = max(weights.get(task, 0.0), total * weight / sum(own.values()))
    return {task: weights[task] for task in all_levels(settings)}


def all_levels(settings: Settings) -> dict[str, list[int]]:
    """Task → every level at which some stage trains it."""
    by_task: dict[str, set[int]] = {}
    for stage in settings.stages:
        for task in tasks_of(stage.tasks or settings.tasks):
            levels = stage.levels[task] if isinstance(stage.levels, dict) else stage.levels
            by_task.setdefault(task, set()).update(levels)
    return {task: sorted(levels) for task, levels in by_task.items()}
