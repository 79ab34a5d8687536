"""The settings of phase quietstar."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, model_validator

from components.shared.optim.kinds import OptimizerKind
from components.shared.runtime.config.settings import PhaseSettings
from components.shared.tasks.settings import HandedOn, Levels, require_levels
from components.shared.training.settings import EngineSettings


class TaskMixture(BaseModel):
    """Items drawn from tasks by weight, each at a level of equal probability."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    tasks: HandedOn = Field(
        min_length=1, description="task → how often it is drawn, in proportion; corpora are left out"
    )
    levels: Levels = Field(description="difficulties drawn from, for all tasks or task by task")
    batch: int = Field(ge=1, description="items a step")

    @model_validator(mode="after")
    def _levels_for_all(self) -> TaskMixture:
        require_levels(self.tasks, self.levels)
        return self


class Settings(PhaseSettings):
    """Settings of phase quietstar. The names of the reference code are in brackets."""

    questions: TaskMixture = Field(
        description="what is thought about, at the positions that predict the answer"
    )
    text: TaskMixture = Field(
        description="plain text that goes on being learnt, so that the model works without thinking"
    )
    scratch: float = Field(
        0.5, ge=0, le=1, description="share of the text that shows worked steps in <think> … </think>"
    )

    length: int = Field(
        12, ge=1, description="tokens of a thought between <think> and </think> (n_ahead - 2)"
    )
    talk: int = Field(4, ge=1, description="true tokens after a thought that reward it (n_ahead_talk)")
    passes: int = Field(
        2, ge=2, description="thoughts at each position; their mean is the baseline (n_passes)"
    )
    positions: int = Field(
        4, ge=1, description="positions of a question that are thought at, drawn where it has more"
    )

    engine: EngineSettings = Field(EngineSettings(), description="devices, shards, precision, adapters")
    steps: int = Field(ge=1, description="training steps of each arm")
    warmup: int = Field(0, ge=0, description="first steps without REINFORCE, while the talk head opens")
    lr: float = Field(gt=0, description="peak learning rate")
    talk_lr: float = Field(
        0.01, gt=0, description="peak learning rate of the talk head, which starts from zero (AdamW)"
    )
    optimizer: OptimizerKind = "muon"
    weight_decay: float = Field(0.0, ge=0)
    clip: float = Field(1.0, gt=0, description="largest norm of the gradient")
    text_weight: float = Field(1.0, ge=0, description="weight of the language-model loss on plain text")
    policy_weight: float = Field(1.0, ge=0, description="weight of the REINFORCE loss (policy_loss_beta)")
    temperature: float = Field(1.0, gt=0, description="at which thoughts are sampled (gumbel_temperature)")
    policy_temperature: float = Field(
        1.0, gt=0, description="at which their likelihood is taken (reinforce_temperature, there 3)"
    )
    clamp: bool = Field(True, description="thoughts below the mean are left alone (remove_negative_rewards)")

    items: int = Field(256, ge=8, description="search items on which the arms are compared")

    @model_validator(mode="after")
    def _engine_fits(self) -> Settings:
        self.engine.check_optimizer(self.optimizer)
        self.engine.check_adapter(
            "thought tokens are new rows of the embedding, and their head starts from zero"
        )
        self.engine.check_workers("a step here is a few rows, and thinking takes nearly all of its time")
        if self.engine.gradient_checkpointing:
            raise ValueError(
                "gradient_checkpointing: thoughts hang off the text's keys and values, which a layer computed again "
                "does not keep; set it to false, and lower questions.batch, text.batch or positions for less memory"
            )
        return self
