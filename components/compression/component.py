"""Phase compression as the pipelines see it: a model in, the smallest artifact that keeps its quality out."""

from components.shared.phase_spec import PhaseSpec

PHASE = PhaseSpec(
    name="compression",
    summary="One lossy codec per tensor by rate and distortion, then one lossless stage.",
    after="adas",
    timeout_seconds=43_200,
)
