"""The container of phase compression: a model in, the smallest artifact that keeps its quality out."""

from components.shared.container import one_model

compression = one_model(
    "compression",
    "One lossy codec per tensor by rate and distortion, then one lossless stage.",
)
