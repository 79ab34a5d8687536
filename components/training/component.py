"""The container of phase training: a model in, the model after the ten training stages out."""

from components.shared.container import one_model

training = one_model("training", "Adaptation, edge of chaos, dreaming and self-modelling: ten stages.")
