"""The container of phase adas: a model in, the model with expert vectors and a searched architecture out."""

from components.shared.container import one_model

adas = one_model("adas", "Architecture search over expert vectors and how they are dispatched.")
