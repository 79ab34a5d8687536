"""The settings of phase adas."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, model_validator

from components.shared.runtime.config.settings import PhaseSettings
from components.shared.tasks.settings import LevelList, TaskName
from components.shared.training.settings import EngineSettings


class Section(BaseModel):
    """A group of settings."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Family(Section):
    """Tasks that share an expert."""

    name: str = Field(pattern=r"^[a-z_]+$")
    tasks: list[TaskName] = Field(min_length=1)
    levels: LevelList = Field(description="where the base is tried; one of them is learnt at")


class Svf(Section):
    """Expert vectors by REINFORCE (Transformer²)."""

    steps: int = Field(ge=1)
    questions: int = Field(ge=1, description="a step")
    samples: int = Field(ge=2, description="answers a question; each is judged against the others' mean")
    lr: float = Field(0.02, gt=0, description="of AdamW, falling along a cosine")
    kl: float = Field(0.05, ge=0, description="weight of the KL divergence from the base, nats a token")
    clip: float = Field(1.0, gt=0, description="largest norm of the gradient")
    low: float = Field(0.1, ge=0, le=1, description="a family where the base succeeds less often is skipped")
    high: float = Field(0.8, ge=0, le=1, description="and so is one where it succeeds more often")
    gate_items: int = Field(ge=8, description="search items by which that is decided, a family and level")

    @model_validator(mode="after")
    def _a_band(self) -> Svf:
        if self.low >= self.high:
            raise ValueError(f"low ({self.low}) must be below high ({self.high})")
        return self


class Cem(Section):
    """Few-shot mixture of experts by the cross-entropy method, for prompts without a route."""

    iterations: int = Field(ge=0, description="0: no such design")
    population: int = Field(6, ge=2)
    elites: int = Field(2, ge=1)
    items: int = Field(ge=2, description="search items of each suite (the few shots)")


class Search(Section):
    """Evolution of architectures."""

    generations: int = Field(ge=0, description="at most")
    children: int = Field(ge=1, description="designs a generation")
    tournament: int = Field(3, ge=1, description="archive entries of which the fittest becomes a parent")
    crossover: float = Field(0.3, ge=0, le=1, description="share of children with two parents")
    patience: int = Field(ge=1, description="generations without a fitter design after which it stops")
    items: int = Field(ge=4, description="of each suite, on the search split")
    finalists: int = Field(4, ge=1, description="fittest designs that are compared on the select split")
    select_items: int = Field(ge=4, description="of each suite, on the select split")


class Settings(PhaseSettings):
    """Settings of phase adas."""

    families: list[Family] = Field(min_length=1)
    answer_tokens: int = Field(16, ge=1, description="longest answer")
    engine: EngineSettings = Field(EngineSettings(), description="of the expert vectors' training")
    svf: Svf
    dispatch_items: int = Field(ge=8, description="training items of each class of the dispatcher")
    other_tasks: list[TaskName] = Field(
        min_length=1, description="tasks of no family, so that the dispatcher can say so"
    )
    cem: Cem
    search: Search

    @model_validator(mode="after")
    def _engine_fits(self) -> Settings:
        why = "an expert is a few thousand numbers, of which there is nothing to cut"
        self.engine.check_strategy(("single", "ddp"), why)
        if self.engine.accumulate > 1:
            raise ValueError(
                "accumulate: a step's answers are sampled at once; lower adas.svf.questions instead"
            )
        if self.engine.gradient_checkpointing or self.engine.compile:
            raise ValueError(
                "gradient_checkpointing, compile: the model is not what is trained, its expert is; leave them false"
            )
        self.engine.check_states("what is trained here is small")
        self.engine.check_adapter("an expert is a vector of singular values, which is all that is trained")
        self.engine.check_workers("answers are sampled by what was learnt in the step before")
        return self

    @model_validator(mode="after")
    def _classes_differ(self) -> Settings:
        names = [family.name for family in self.families]
        if len(set(names)) != len(names) or "other" in names:
            raise ValueError("families need different names, and none may be called `other`")
        tasks = [task for family in self.families for task in family.tasks] + self.other_tasks
        twice = sorted({task for task in tasks if tasks.count(task) > 1})
        if twice:
            raise ValueError(
                f"{', '.join(twice)} stands in two classes: the dispatcher could not tell them apart"
            )
        return self
