"""Phase baking as the pipelines see it: a model in, a model with prompts baked into its weights out."""

from components.shared.phase_spec import PhaseSpec

PHASE = PhaseSpec(
    name="baking",
    summary="Prompts for tools, memory, retrieval and persona, baked into the weights.",
    after="training",
    timeout_seconds=43_200,
)
