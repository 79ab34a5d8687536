"""The foundation as the pipelines see it: one task for each base model that is given, before all that is made of it.

It stands before the eight phases and is none of them: it trains nothing, has no settings of its own, and runs in the image
of the first phase. What it is told decides its result alone, so that no change of a phase's settings fetches a model again.
"""

from __future__ import annotations

from components.shared.phase_spec import Interface, PhaseSpec

FOUNDATION = PhaseSpec(
    name="foundation",
    summary="A base model: fetched, checked, its tokenizer set up, and published with its licence.",
    takes="base models",
    module="shared.foundation",
    image="cognate",
    timeout_seconds=14_400,
)

SETTINGS = '{"profile":"","evaluation":{"items":2,"batch":1},"foundation":{}}'
"""What its tasks get in place of a phase's settings, whatever the run is told."""

INTERFACE = Interface(
    FOUNDATION.name,
    FOUNDATION.summary,
    phase=FOUNDATION,
    parameters={"base_model": str, "dtype": str},
)
