"""Phase training as the pipelines see it: a model in, the model after the ten training stages out."""

from components.shared.phase_spec import PhaseSpec

PHASE = PhaseSpec(
    name="training",
    summary="Adaptation, edge of chaos, dreaming and self-modelling: ten stages.",
    after="bitnet",
    gpu=True,
    timeout_seconds=172_800,
)
