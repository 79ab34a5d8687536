"""Phase bitnet as the pipelines see it: a model in, the same model with ternary weights out."""

from components.shared.phase_spec import PhaseSpec

PHASE = PhaseSpec(
    name="bitnet",
    summary="1.58-bit (ternary) quantisation-aware conversion.",
    after="quietstar",
    timeout_seconds=86_400,
)
