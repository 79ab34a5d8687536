"""The container of phase baking: a model in, a model with prompts baked into its weights out."""

from kfp import dsl
from kfp.dsl import Input, Model, Output

from components.image import arguments, image


@dsl.container_component
def baking(
    model: Input[Model],
    output_model: Output[Model],
    profile: str,
    overrides: list[str],
    seed: int,
    code_version: str,
    config_digest: str,
    checkpoint_root: str,
) -> dsl.ContainerSpec:
    """Prompts for tools, memory, retrieval and persona, baked into the weights.

    Args:
        model: the model of the phase before.
        output_model: where this phase's model is published.
        profile: configs/profile/<profile>.yaml.
        overrides: Hydra overrides, such as "baking.threads=4".
        seed: of everything random in the phase.
        code_version: of the image; part of the cache key, and recorded in the artifact.
        config_digest: of the composed configuration; part of the cache key.
        checkpoint_root: an s3:// prefix or folder for checkpoints; empty for the container's own default.
    """
    return dsl.ContainerSpec(image=image("baking"), command=["python"], args=arguments("baking"))
