"""Phase quietstar as the pipelines see it: a model in, a model that thinks before it predicts out."""

from components.shared.phase_spec import PhaseSpec

PHASE = PhaseSpec(
    name="quietstar",
    summary="Thought tokens: the model learns to think before it predicts.",
    after="evomerge",
    timeout_seconds=86_400,
)
