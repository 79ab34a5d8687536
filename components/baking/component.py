"""The container of phase baking: a model in, a model with prompts baked into its weights out."""

from components.shared.container import one_model

baking = one_model("baking", "Prompts for tools, memory, retrieval and persona, baked into the weights.")
