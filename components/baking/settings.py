"""The settings of phase baking."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from components.shared.runtime.config.settings import PhaseSettings
from components.shared.runtime.wording import did_you_mean
from components.shared.tasks.generators.behaviours import FAMILIES
from components.shared.tasks.settings import HandedOn, LevelList, Levels, require_levels
from components.shared.training.settings import EngineSettings


class Bake(BaseModel):
    """One behaviour to bake, and what has to come of it."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    behaviour: str = Field(description="a family of components/shared/tasks/generators/behaviours.py")
    steps: int = Field(ge=1)
    least: float = Field(
        0.5,
        gt=0,
        le=1,
        description="share of the way from the rate without the instruction to the rate with it that must be gone",
    )

    @field_validator("behaviour")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in FAMILIES:
            raise ValueError(f"there is no behaviour {name!r}, {did_you_mean(name, sorted(FAMILIES))}")
        return name


class Settings(PhaseSettings):
    """Settings of phase baking."""

    bakes: list[Bake] = Field(min_length=1, description="one after another; each starts from the one before")
    questions: int = Field(ge=8, description="training questions a bake")
    trajectories: int = Field(
        1, ge=1, description="answers sampled from the prompted teacher for each question"
    )
    temperature: float = Field(1.0, gt=0, description="of that sampling")
    teacher_tokens: int = Field(
        512,
        ge=1,
        description="likeliest tokens of the teacher kept at each place, the rest in one bucket: the KL is a lower bound "
        "of the whole one; from the size of the vocabulary on it is the whole",
    )
    answer_tokens: int = Field(16, ge=1, description="longest sampled answer")
    levels: LevelList = Field(description="difficulties of the questions")
    batch: int = Field(32, ge=1, description="trajectories a step; as many anchors beside them")
    engine: EngineSettings = Field(EngineSettings(), description="devices, shards, precision, adapters")
    rank: int | None = Field(8, ge=1, description="of LoRA; null: no bound on the rank")
    lr: float = Field(gt=0)
    anchor: float = Field(
        1.0, ge=0, description="weight of the KL to the model before, on what must not change"
    )
    anchor_tasks: HandedOn = Field(
        min_length=1, description="unrelated tasks of the anchor, with weights; corpora left out"
    )
    anchor_levels: Levels = Field(description="their levels, for all or task by task")
    held_out: int = Field(64, ge=8, description="search questions each gate is measured on")
    forgetting: float = Field(
        0.1,
        ge=0,
        le=1,
        description="largest loss of accuracy that a bake may cost: on anchored tasks, on questions to leave alone, "
        "on any behaviour baked before",
    )
    false_trigger_rate: float = Field(
        0.1,
        ge=0,
        le=1,
        description="largest share of questions that do not call for the behaviour on which it may be shown",
    )

    @model_validator(mode="after")
    def _engine_fits(self) -> Settings:
        why = "the weights from before a bake stay whole on each rank, so that it can be taken back"
        self.engine.check_strategy(("single", "ddp", "zero1", "zero2"), why)
        self.engine.check_states("what is trained here is small")
        self.engine.check_adapter("baking has low-rank changes of its own, of the rank in baking.rank")
        self.engine.check_workers("what is baked is sampled before the first step")
        return self

    @model_validator(mode="after")
    def _levels_for_all(self) -> Settings:
        require_levels(self.anchor_tasks, self.anchor_levels)
        return self
