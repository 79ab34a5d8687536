"""Phase adas as the pipelines see it: a model in, the model with expert vectors and a searched architecture out."""

from components.shared.phase_spec import PhaseSpec

PHASE = PhaseSpec(
    name="adas",
    summary="Architecture search over expert vectors and how they are dispatched.",
    after="baking",
    timeout_seconds=86_400,
)
