"""The settings of phase cognate."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from components.shared.optim.kinds import OptimizerKind
from components.shared.runtime.config.settings import MOST_THREADS, PhaseSettings
from components.shared.tasks.settings import Levels, TextWeights, require_levels
from components.shared.training.settings import EngineSettings

VARIANTS = ("standard", "memory", "reasoning")


class Geometry(BaseModel):
    """The network of all variants: a decoder with RMSNorm, RoPE, SwiGLU and tied embeddings over bytes."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    hidden_size: int = Field(ge=8)
    intermediate_size: int = Field(ge=8)
    num_hidden_layers: int = Field(ge=1)
    num_attention_heads: int = Field(ge=1)
    num_key_value_heads: int | None = Field(None, ge=1, description="fewer than heads: grouped queries")
    vocabulary_size: int = Field(
        272, ge=272, description="rows of the embedding: at least as many as the tokenizer has tokens"
    )
    max_position_embeddings: int = Field(1024, ge=16)
    memory_size: int = Field(64, ge=4, description="width of the memory variant's neural memory")
    memory_heads: int = Field(2, ge=1)
    memory_chunk: int = Field(16, ge=1, description="tokens between two updates of the memory's matrix")
    refinement_size: int = Field(128, ge=8, description="width inside the reasoning variant's block")
    refinement_steps: int = Field(2, ge=1)

    @model_validator(mode="after")
    def _heads_divide(self) -> Geometry:
        """As in CognateConfig, which is not there yet where settings are checked."""
        for whole, part in (
            ("hidden_size", "num_attention_heads"),
            ("num_attention_heads", "num_key_value_heads"),
            ("memory_size", "memory_heads"),
        ):
            sizes = getattr(self, whole), getattr(self, part) or 1
            if sizes[0] % sizes[1]:
                raise ValueError(f"{whole} ({sizes[0]}) is not a multiple of {part} ({sizes[1]})")
        if self.hidden_size // self.num_attention_heads % 2:
            raise ValueError("hidden_size / num_attention_heads must be even: RoPE rotates pairs")
        return self


class Opening(BaseModel):
    """What a course begins with: a mixture of its own, for the circuits that all else is built on."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    steps: int = Field(0, ge=0, description="at most; none without it")
    loss: float = Field(
        0.0, ge=0, description="the opening ends when ten steps in a row have this mean loss, nats a token"
    )
    tasks: TextWeights = Field(default_factory=dict)


class Course(BaseModel):
    """What a network is trained on, and for how long."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    steps: int = Field(ge=1, description="at most; convergence may end the course earlier")
    threads: int = Field(
        2, ge=1, le=MOST_THREADS, description="CPU threads; variants run side by side, the trunk alone"
    )
    lr: float = Field(gt=0, description="peak learning rate")
    scratch: float = Field(0.0, ge=0, le=1, description="share of the items that show their worked steps")
    levels: Levels = Field(description="difficulties drawn from, for all tasks or task by task")
    opening: Opening = Opening()
    tasks: TextWeights = Field(
        min_length=1, description="task, or corpus:ADDRESS → how often it is drawn, in proportion"
    )

    @model_validator(mode="after")
    def _levels_for_all(self) -> Course:
        require_levels([*self.tasks, *self.opening.tasks], self.levels)
        if self.opening.steps and not self.opening.tasks:
            raise ValueError("the opening has steps and no tasks")
        return self


class Given(BaseModel):
    """How variants of a given base model are made: modules put onto it, and a short course of each one's mixture."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    trains: Literal["nothing", "modules", "lora", "all"] = Field(
        "lora", description="the added modules alone; low-rank adapters of the model too; all its weights"
    )
    steps: int = Field(20, ge=1, description="at most, of each variant's course")
    batch: int = Field(16, ge=1, description="items a step")
    lr: float = Field(5e-4, gt=0, description="peak learning rate, AdamW")
    rank: int = Field(8, ge=1, description="of the adapters")
    memory_layer: int | None = Field(
        None, ge=0, description="the memory stands in front of it; counted from 0; null: the middle one"
    )
    memory_size: int = Field(64, ge=4, description="width of the memory, over all heads")
    memory_heads: int = Field(2, ge=1)
    memory_chunk: int = Field(16, ge=1, description="tokens between two updates of the memory's matrix")
    refinement_width: int = Field(64, ge=4, description="of the refinement's block")
    refinement_size: int = Field(128, ge=8, description="inside its SwiGLU")
    refinement_heads: int = Field(2, ge=1)
    refinement_steps: int = Field(2, ge=1)
    refinement_prior: float = Field(0.5, gt=0, lt=1, description="probability of halting at a step, a priori")
    refinement_beta: float = Field(0.01, ge=0, description="weight of the prior in the loss")

    @model_validator(mode="after")
    def _heads_divide(self) -> Given:
        for name, size, of in (
            ("memory_size", self.memory_size, self.memory_heads),
            ("refinement_width", self.refinement_width, 2 * self.refinement_heads),
        ):
            if size % of:
                raise ValueError(f"{name} ({size}) is not a multiple of {of}, as its heads want it")
        return self


class Settings(PhaseSettings):
    """Settings of phase cognate."""

    model: Geometry
    tokenizer: str = Field(
        "", description="folder or s3:// address of a Hugging Face tokenizer; empty: bytes (272 tokens)"
    )
    trunk: Course
    standard: Course
    memory: Course
    reasoning: Course
    given: Given = Given()
    engine: EngineSettings = Field(EngineSettings(), description="devices, shards, precision, adapters")
    optimizer: OptimizerKind = "muon"
    batch: int = Field(64, ge=1, description="items a step")
    rows: int = Field(
        64, ge=1, description="items of like length that pass the network together: less padding, less memory"
    )
    row_tokens: int = Field(
        256, ge=16, description="tokens of a packed row of text, where a mixture names a corpus"
    )
    weight_decay: float = Field(0.0, ge=0)
    warmup: int = Field(20, ge=0, description="steps of linear warm-up")
    sanity_steps: int = Field(
        8,
        ge=0,
        description="steps in which a known task must be learnt better before the trunk's begin; 0: not asked",
    )
    decay: float = Field(
        0.3, ge=0, le=1, description="share of the steps that the rate falls over at the end"
    )
    clip: float = Field(1.0, gt=0, description="largest norm of the gradient")
    window: int = Field(200, ge=10, description="steps over which convergence is judged")
    tolerance: float = Field(
        0.01, ge=0, description="relative improvement below which training has converged"
    )
    equal_size: bool = Field(
        False,
        description="publish each variant with the modules of all, closed where it has not learnt with them: the function "
        "is the same, and the numbers of parameters are equal",
    )
    gram_items: int = Field(
        256, ge=1, description="training items from which RegMean's Gram matrices are taken"
    )
    probe_items: int = Field(
        128, ge=8, description="search items for the distances between trunk and variant"
    )

    @model_validator(mode="after")
    def _engine_fits(self) -> Settings:
        self.engine.check_optimizer(self.optimizer)
        self.engine.check_adapter("a cognate starts from random weights, of which all have to learn")
        return self
