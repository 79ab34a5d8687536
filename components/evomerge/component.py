"""The containers of phase evomerge: gather the parents; in each round worker pods and a selection; then the
merge.

KFP hands a list of artifacts whole only to a container that consumes a loop's `Collected` beside that loop.
Into a nested pipeline or a loop body only one element of a list arrives (the metadata store keeps one
artifact a name). So `evomerge_gather` binds the parents into one artifact, and that is what the pods inside
the loops receive.
"""

from kfp import dsl
from kfp.dsl import Artifact, Input, Model, Output

from components.image import arguments, image

IMAGE = image("evomerge")


@dsl.container_component
def evomerge_gather(
    parents: Output[Artifact],
    models: Input[list[Model]] = None,  # type: ignore[assignment]
    uris: list[str] = [],  # noqa: B006 - KFP reads the default from the signature
) -> dsl.ContainerSpec:
    """Bind the parents into one artifact, byte for byte.

    Args:
        parents: one artifact that holds them all.
        models: the models to merge, in the order of base_models.
        uris: folders or s3:// addresses of models to merge, where no loop made them.
    """
    return dsl.ContainerSpec(image=IMAGE, command=["python"], args=arguments("shared.runtime.bind"))


@dsl.container_component
def evomerge_worker(
    models: Input[Artifact],
    results: Output[Artifact],
    index: int,
    round: int,
    rounds: int,
    generations: int,
    population: int,
    profile: str,
    overrides: list[str],
    seed: int,
    code_version: str,
    config_digest: str,
    checkpoint_root: str,
    state: Input[Artifact] = None,  # type: ignore[assignment]
) -> dsl.ContainerSpec:
    """One worker: its share of the population for the generations of this round, merged and scored in memory.

    Args:
        models: the parents, bound into one artifact.
        results: genomes and their scores, no weights.
        index: of this worker, from 0.
        round: of this fan-out, from 0.
        rounds: how many there are.
        generations: in the whole search; 0 for what the profile says.
        population: of the whole search; 0 for what the profile says.
        profile: configs/profile/<profile>.yaml.
        overrides: Hydra overrides, such as "evomerge.threads=4".
        seed: of everything random in the phase.
        code_version: of the image; part of the cache key, and recorded in the artifact.
        config_digest: of the composed configuration; part of the cache key.
        checkpoint_root: an s3:// prefix or folder for checkpoints; empty for the container's own default.
        state: what the selection of the round before decided; none in round 0.
    """
    return dsl.ContainerSpec(image=IMAGE, command=["python"], args=arguments("evomerge", step="worker"))


@dsl.container_component
def evomerge_select(
    models: Input[Artifact],
    results: Input[list[Artifact]],
    state: Output[Artifact],
    round: int,
    profile: str,
    overrides: list[str],
    seed: int,
    code_version: str,
    config_digest: str,
    checkpoint_root: str,
) -> dsl.ContainerSpec:
    """The barrier of a round: what all workers found becomes the state from which the next round goes on.

    Args:
        models: the parents, bound into one artifact.
        results: one of each worker, in the order of their indices.
        state: population, archive, lineage and the search's own state.
        round: from 0.
        profile: configs/profile/<profile>.yaml.
        overrides: Hydra overrides, such as "evomerge.threads=4".
        seed: of everything random in the phase.
        code_version: of the image; part of the cache key, and recorded in the artifact.
        config_digest: of the composed configuration; part of the cache key.
        checkpoint_root: an s3:// prefix or folder for checkpoints; empty for the container's own default.
    """
    return dsl.ContainerSpec(image=IMAGE, command=["python"], args=arguments("evomerge", step="select"))


@dsl.container_component
def evomerge(
    models: Input[Artifact],
    state: Input[Artifact],
    model: Output[Model],
    profile: str,
    overrides: list[str],
    seed: int,
    code_version: str,
    config_digest: str,
    checkpoint_root: str,
) -> dsl.ContainerSpec:
    """Merge the parents by the champion's genome and publish the model.

    Args:
        models: the parents, bound into one artifact.
        state: the last selection.
        model: where the merged model is published.
        profile: configs/profile/<profile>.yaml.
        overrides: Hydra overrides, such as "evomerge.threads=4".
        seed: of everything random in the phase.
        code_version: of the image; part of the cache key, and recorded in the artifact.
        config_digest: of the composed configuration; part of the cache key.
        checkpoint_root: an s3:// prefix or folder for checkpoints; empty for the container's own default.
    """
    return dsl.ContainerSpec(image=IMAGE, command=["python"], args=arguments("evomerge"))
