"""What phase compression can be told."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from components.shared.runtime.config.settings import PhaseSettings
from components.shared.runtime.wording import did_you_mean
from components.shared.training.settings import EngineSettings

from .codecs import declarations
from .stages import STAGES

BEST, STAGED, FIXED = "best", "stages:", "fixed:"
STAGED_RECIPES = [f"{STAGED}{number + 1}" for number in range(len(STAGES))]
RECIPES = f"{BEST}, {', '.join(STAGED_RECIPES)}, {FIXED}PRESET or {FIXED}CODEC@BITS"


class RecoverySettings(BaseModel):
    """Distillation of norms, biases and gates after coding by the recipe `best` (recovery.py)."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    steps: int = Field(0, ge=0, description="0: none")
    lr: float = Field(0.01, gt=0, description="of Adam, falling along a cosine")
    items: int = Field(64, ge=2, description="of each suite, train split: what it learns from")


class CalibrationSettings(BaseModel):
    """A text in place of items, for models that have a language of their own (allocation/text.py)."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    text: str | None = Field(
        None,
        min_length=1,
        description="file or s3:// address of UTF-8 text of the model's kind; else items of the suites calibrate and judge",
    )
    tokens: int = Field(8192, ge=256, description="of the text: inputs and gradients of the layers")
    held_out: int = Field(
        4096, ge=256, description="of the text after these: half of them choose, half report"
    )
    row: int = Field(512, ge=16, description="tokens that the model sees at once")


class Settings(PhaseSettings):
    """Settings of phase compression."""

    recipe: str = Field(
        BEST,
        description=f"{RECIPES}; presets are listed in components/compression/codecs/, BITS names the preset of a codec "
        "whose bits are nearest",
    )
    retention: float = Field(
        0.99,
        gt=0,
        le=1,
        description="of what the model knows, on the search split; the fewest bytes that keep it",
    )
    bytes: int | None = Field(
        None, ge=1, description="instead of retention: the least harm in an artifact of so many bytes"
    )
    target_size_mb: float | None = Field(
        None, gt=0, description="the same in megabytes of 10⁶ bytes; give one of the two"
    )
    candidates: list[str] = Field(min_length=1, description="presets that a tensor may be given")
    smallest: int = Field(2048, ge=1, description="weights of a matrix; smaller ones are kept in 16 bits")
    sample: int = Field(1 << 19, ge=1024, description="weights of a tensor on which a code is tried")
    calibration_items: int = Field(32, ge=2, description="of each suite, train split: inputs of the layers")
    search_items: int = Field(24, ge=2, description="of each suite, search split: what chooses")
    select_items: int = Field(
        64, ge=2, description="of each suite, select split: what retention is measured on"
    )
    calibration: CalibrationSettings = CalibrationSettings()
    recovery: RecoverySettings = RecoverySettings()
    engine: EngineSettings = Field(EngineSettings(), description="of the recovery's training")
    curve: int = Field(8, ge=0, description="sizes at which retention is measured")
    controls: list[str] = Field(
        ["uniform", "seedlm", "vptq", "hyper"],
        description="codecs that are given all tensors, for comparison",
    )

    @model_validator(mode="after")
    def _recovery_has_items(self) -> Settings:
        if self.calibration.text is not None and self.recovery.steps:
            raise ValueError(
                "recovery learns from items of the suites: with calibration.text, recovery.steps must be 0"
            )
        return self

    @model_validator(mode="after")
    def _engine_fits(self) -> Settings:
        why = "recovery trains norms, biases and gates of a model that one process has coded"
        self.engine.check_strategy(("single",), why)
        self.engine.check_states("what is trained here is small")
        self.engine.check_adapter("recovery trains norms, biases and gates, and no matrix")
        self.engine.check_workers("what recovery learns from is computed before the first step")
        return self

    @model_validator(mode="after")
    def _one_size(self) -> Settings:
        if self.bytes is not None and self.target_size_mb is not None:
            raise ValueError("bytes and target_size_mb are both given: leave one out")
        return self

    @property
    def size(self) -> int | None:
        """Bytes that the artifact shall have; None where retention decides."""
        return self.bytes if self.target_size_mb is None else round(1e6 * self.target_size_mb)

    @field_validator("recipe")
    @classmethod
    def _known_recipe(cls, recipe: str) -> str:
        if recipe == BEST or recipe in STAGED_RECIPES:
            return recipe
        if not recipe.startswith(FIXED):
            raise ValueError(f"there is no recipe {recipe!r}; allowed: {RECIPES}")
        name = recipe.removeprefix(FIXED)
        codec, separator, bits = name.rpartition("@")
        if separator:
            return FIXED + nearest_preset(codec, bits)
        return FIXED + _known(name, list(declarations.presets()), "preset")

    @field_validator("candidates")
    @classmethod
    def _known_candidates(cls, candidates: list[str]) -> list[str]:
        return [_known(name, list(declarations.presets()), "preset") for name in candidates]

    @field_validator("controls")
    @classmethod
    def _known_controls(cls, controls: list[str]) -> list[str]:
        return [_known(name, sorted(declarations.families()), "codec") for name in controls]


def nearest_preset(family: str, bits: str) -> str:
    """The name of the codec's preset whose bits are nearest to these; the one of fewer bits of two as near.

    :raises ValueError: there is no such codec, or the bits are no number of bits.
    """
    families = declarations.families()
    presets = families[_known(family, sorted(families), "codec")]
    try:
        target = float(bits)
    except ValueError:
        target = 0.0
    if not 0 < target <= 32:
        raise ValueError(f"{bits!r} is no number of bits; allowed: {FIXED}CODEC@BITS, BITS a number up to 32")
    return min(presets, key=lambda preset: (abs(preset.bits - target), preset.bits)).name


def _known(name: str, known: list[str], kind: str) -> str:
    if name not in known:
        raise ValueError(f"there is no {kind} {name!r}; {did_you_mean(name, known)}")
    return name
