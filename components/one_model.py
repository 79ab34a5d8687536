"""The container component of a phase that takes one model and makes one model."""

from kfp import dsl
from kfp.dsl import Input, Model, Output

from .image import arguments, image


def one_model(phase: str, summary: str) -> dsl.base_component.BaseComponent:
    """The component named `phase`; `summary`, one sentence, is what KFP's UI says of it."""

    def container(
        model: Input[Model],
        output_model: Output[Model],
        profile: str,
        overrides: list[str],
        seed: int,
        code_version: str,
        config_digest: str,
        checkpoint_root: str,
    ) -> dsl.ContainerSpec:
        return dsl.ContainerSpec(image=image(phase), command=["python"], args=arguments(phase))

    container.__name__ = phase
    container.__doc__ = f"""{summary}

    Args:
        model: the model of the phase before.
        output_model: where this phase's model is published.
        profile: configs/profile/<profile>.yaml.
        overrides: Hydra overrides, such as "{phase}.threads=4".
        seed: of everything random in the phase.
        code_version: of the image; part of the cache key, and recorded in the artifact.
        config_digest: of the composed configuration; part of the cache key.
        checkpoint_root: an s3:// prefix or folder for checkpoints; empty for the container's own default.
    """
    return dsl.container_component(container)
