"""What phase compression can be told."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, field_validator

from components.shared.runtime.config.settings import PhaseSettings

from .codecs.presets import FAMILIES, MENU, Family

BEST, CHAINED, FIXED = "best", "seedlm+vptq+hyper", "fixed:"


class Recovery(BaseModel):
    """Distillation of norms, biases and gates after coding by the recipe `best` (recovery.py)."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    steps: int = Field(0, ge=0, description="0: none")
    lr: float = Field(0.01, gt=0, description="of Adam, falling along a cosine")
    items: int = Field(64, ge=1, description="of each suite, train split: what it learns from")


class Settings(PhaseSettings):
    """Settings of phase compression."""

    recipe: str = Field(
        BEST,
        description=f"{BEST}, {CHAINED}, or {FIXED}NAME with a code of components/compression/codecs/presets.py,"
        f" or {FIXED}CODEC@BITS for the one of a codec whose bits are nearest",
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
    candidates: list[str] = Field(min_length=1, description="codes that a tensor may be given, by name")
    smallest: int = Field(2048, ge=1, description="weights of a matrix; smaller ones are kept in 16 bits")
    sample: int = Field(1 << 19, ge=1024, description="weights of a tensor on which a code is tried")
    calibration_items: int = Field(32, ge=1, description="of each suite, train split: inputs of the layers")
    search_items: int = Field(24, ge=1, description="of each suite, search split: what chooses")
    select_items: int = Field(
        64, ge=2, description="of each suite, select split: what retention is measured on"
    )
    recovery: Recovery = Recovery()
    curve: int = Field(8, ge=0, description="sizes at which retention is measured")
    controls: list[Family] = Field(
        list(FAMILIES), description="codecs that are given all tensors, for comparison"
    )

    @field_validator("recipe")
    @classmethod
    def _known_recipe(cls, recipe: str) -> str:
        codec, at, bits = recipe.removeprefix(FIXED).rpartition("@")
        if recipe.startswith(FIXED) and at:
            return FIXED + nearest(codec, bits)
        if recipe not in (BEST, CHAINED) and recipe not in (FIXED + name for name in MENU):
            raise ValueError(f"allowed: {BEST}, {CHAINED}, or {FIXED} and one of {', '.join(MENU)}")
        return recipe

    @field_validator("candidates")
    @classmethod
    def _known_candidates(cls, candidates: list[str]) -> list[str]:
        unknown = [name for name in candidates if name not in MENU]
        if unknown:
            raise ValueError(f"unknown: {', '.join(unknown)}; allowed: {', '.join(MENU)}")
        return candidates


def nearest(codec: str, bits: str) -> str:
    """The name of the codec's code whose bits are nearest to these; the one of fewer bits of two as near."""
    codecs = sorted({dish.family for dish in MENU.values()})
    names = [name for name, dish in MENU.items() if dish.family == codec]
    try:
        wanted = float(bits)
    except ValueError:
        wanted = 0.0
    if not names or not 0 < wanted <= 32:
        raise ValueError(
            f"allowed: {FIXED}CODEC@BITS, CODEC one of {', '.join(codecs)}, BITS a number up to 32"
        )
    return min(names, key=lambda name: (abs(MENU[name].bits - wanted), MENU[name].bits))
