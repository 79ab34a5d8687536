"""The optimisers by name, for settings, which import no torch."""

from typing import Literal

OptimizerKind = Literal["muon", "muon_bfloat16", "adamw"]
