"""The container of phase quietstar: a model in, a model that thinks before it predicts out."""

from kfp import dsl
from kfp.dsl import Input, Model, Output

from components.image import arguments, image


@dsl.container_component
def quietstar(
    model: Input[Model],
    output_model: Output[Model],
    profile: str,
    overrides: list[str],
    seed: int,
    code_version: str,
    config_digest: str,
    checkpoint_root: str,
) -> dsl.ContainerSpec:
    """Thought tokens: the model learns to think before it predicts.

    Args:
        model: the model of the phase before.
        output_model: where this phase's model is published.
        profile: configs/profile/<profile>.yaml.
        overrides: Hydra overrides, such as "quietstar.threads=4".
        seed: of everything random in the phase.
        code_version: of the image; part of the cache key, and recorded in the artifact.
        config_digest: of the composed configuration; part of the cache key.
        checkpoint_root: an s3:// prefix or folder for checkpoints; empty for the container's own default.
    """
    return dsl.ContainerSpec(image=image("quietstar"), command=["python"], args=arguments("quietstar"))
