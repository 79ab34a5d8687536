"""The settings of phase bitnet."""

from __future__ import annotations

from pydantic import Field, model_validator

from components.shared.optim.kinds import OptimizerKind
from components.shared.runtime.config.settings import PhaseSettings
from components.shared.tasks.settings import Levels, TextWeights, require_levels
from components.shared.training.settings import EngineSettings


class Settings(PhaseSettings):
    """Settings of phase bitnet."""

    steps: int = Field(ge=1, description="steps of quantisation-aware training")
    batch: int = Field(64, ge=1, description="items a step")
    rows: int = Field(
        64, ge=1, description="items of like length that pass the network together: less padding, less memory"
    )
    row_tokens: int = Field(
        256, ge=16, description="tokens of a packed row of text, where the mixture names a corpus"
    )
    engine: EngineSettings = Field(EngineSettings(), description="devices, shards, precision, adapters")
    optimizer: OptimizerKind = "muon"
    lr: float = Field(gt=0, description="peak learning rate")
    weight_decay: float = Field(0.0, ge=0, description="in the first half only, as in BitNet b1.58's recipe")
    clip: float = Field(1.0, gt=0, description="largest norm of the gradient")
    warmup: int = Field(10, ge=0, description="steps of linear warm-up of the rate")
    strength_warmup: int = Field(
        0, ge=0, description="steps over which the quantisation is faded in (λ); 0: at once"
    )
    distillation: float = Field(
        1.0, ge=0, description="weight of the KL to the full-precision input; 0: none"
    )
    temperature: float = Field(1.0, gt=0, description="of both distributions in that KL")
    sublayer_norm: bool = Field(
        True, description="a calibrated RMSNorm in front of o_proj and down_proj (SubLN)"
    )
    calibration_items: int = Field(128, ge=8, description="training items that the norms are calibrated on")
    held_out_items: int = Field(256, ge=8, description="search items that retention is measured on")
    tasks: TextWeights = Field(
        min_length=1, description="task, or corpus:ADDRESS → how often it is drawn, in proportion"
    )
    levels: Levels = Field(description="difficulties, for all tasks or task by task")
    scratch: float = Field(0.0, ge=0, le=1, description="share of the items that show their worked steps")

    @model_validator(mode="after")
    def _engine_fits(self) -> Settings:
        self.engine.check_optimizer(self.optimizer)
        self.engine.check_adapter("a ternary network learns through its quantiser, in all of its weights")
        return self

    @model_validator(mode="after")
    def _levels_for_all(self) -> Settings:
        require_levels(self.tasks, self.levels)
        return self
