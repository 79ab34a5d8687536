"""The settings of the foundation: what every phase has, and none of its own; what it is told are parameters."""

from __future__ import annotations

from components.shared.runtime.config.settings import PhaseSettings


class Settings(PhaseSettings):
    """Settings of the foundation."""
