"""The container of phase bitnet: a model in, the same model with ternary weights out."""

from components.shared.container import one_model

bitnet = one_model("bitnet", "1.58-bit (ternary) quantisation-aware conversion.")
