"""The containers of phase cognate: one trunk, then one variant of it per pod."""

from kfp import dsl
from kfp.dsl import Input, Model, Output

from components.image import arguments, image


@dsl.container_component
def cognate_trunk(
    base_models: list[str],
    model: Output[Model],
    profile: str,
    overrides: list[str],
    seed: int,
    code_version: str,
    config_digest: str,
    checkpoint_root: str,
) -> dsl.ContainerSpec:
    """The early training that all variants share, without which they could not be merged.

    Args:
        base_models: the variants that will be trained from it, or URIs of models taken in their place.
        model: where the trunk is published.
        profile: configs/profile/<profile>.yaml.
        overrides: Hydra overrides, such as "cognate.threads=4".
        seed: of everything random in the phase.
        code_version: of the image; part of the cache key, and recorded in the artifact.
        config_digest: of the composed configuration; part of the cache key.
        checkpoint_root: an s3:// prefix or folder for checkpoints; empty for the container's own default.
    """
    return dsl.ContainerSpec(
        image=image("cognate"), command=["python"], args=arguments("cognate", step="trunk")
    )


@dsl.container_component
def cognate(
    variant: str,
    trunk: Input[Model],
    model: Output[Model],
    profile: str,
    overrides: list[str],
    seed: int,
    code_version: str,
    config_digest: str,
    checkpoint_root: str,
) -> dsl.ContainerSpec:
    """One variant of the base model, trained on from the trunk.

    Args:
        variant: "standard", "memory" or "reasoning"; or a folder or s3:// URI of a Hugging Face model taken
            in its place.
        trunk: what all variants start from.
        model: where the variant is published.
        profile: configs/profile/<profile>.yaml.
        overrides: Hydra overrides, such as "cognate.threads=4".
        seed: of everything random in the phase.
        code_version: of the image; part of the cache key, and recorded in the artifact.
        config_digest: of the composed configuration; part of the cache key.
        checkpoint_root: an s3:// prefix or folder for checkpoints; empty for the container's own default.
    """
    return dsl.ContainerSpec(image=image("cognate"), command=["python"], args=arguments("cognate"))
