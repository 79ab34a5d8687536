"""The container of phase quietstar: a model in, a model that thinks before it predicts out."""

from components.shared.container import one_model

quietstar = one_model("quietstar", "Thought tokens: the model learns to think before it predicts.")
