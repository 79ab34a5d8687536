"""`forge compile`: the pipeline, or a range of its phases, as KFP takes it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ...phases import COMPILED, PARENTS, PHASES, ROUNDS, WORKERS
from ..options import ClusterName, First, Last, Overrides, Profile, Rounds, Workers, say


def compile_(
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Where the YAML goes (default: here, named as the pipeline).",
            show_default=False,
        ),
    ] = None,
    committed: Annotated[
        bool,
        typer.Option("--committed", help="Write pipelines/agent_forge.yaml, without digests of the code."),
    ] = False,
    first: First = PHASES[0],
    last: Last = PHASES[-1],
    parents: Annotated[
        int, typer.Option(help="Base models, or artifacts from which evomerge starts.")
    ] = PARENTS,
    workers: Workers = WORKERS,
    rounds: Rounds = ROUNDS,
    cluster: ClusterName = "default",
    profile: Profile = "tiny",
    *,
    override: Overrides,
) -> None:
    """Compile the pipeline for Kubeflow Pipelines.

    \b
    forge compile
    forge compile --cluster gpu --rounds 4 --workers 4 -o gpu.yaml
    forge compile --from training --to training -o training.yaml
    forge compile --profile small -O bitnet.threads=4      # what a run started from KFP's page takes by default

    AGENT_FORGE_REGISTRY says where the images are; AGENT_FORGE_IMAGE_<PHASE>, where it is set, is the image of a phase:
    an address in a registry, pinned by digest. Each task carries the digest of the code that is here, so that KFP's cache
    knows it, and a phase whose image carries another refuses to run; --committed leaves it out.
    """  # fmt: skip
    from components.shared.runtime.atomic import write_atomically
    from components.shared.runtime.errors import ConfigError

    from ...kubeflow.compiled import compiled

    if output and output.is_dir():
        raise ConfigError("this is a folder", where=f"--output {output}", fix="give a file's name")
    pipeline = compiled(
        first,
        last,
        parents=parents,
        workers=workers,
        rounds=rounds,
        cluster=cluster,
        profile=profile,
        overrides=override,
        pinned=not committed,
    )
    target = output or (COMPILED if committed else Path(f"{pipeline.pipeline.name}.yaml"))
    write_atomically(target, pipeline.text)
    say(f"{pipeline} → {target}")
