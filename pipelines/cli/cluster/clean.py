"""`forge clean`: old checkpoints and progress out of a store."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from ..options import say


def clean(
    address: Annotated[
        str,
        typer.Argument(
            metavar="ADDRESS", help="Where runs are: minio://mlpipeline/v2/artifacts, s3://…, a folder."
        ),
    ],
    older_than: Annotated[
        str, typer.Option("--older-than", help="Runs in which nothing was written for so long: 12h, 30d, 4w.")
    ] = "30d",
    artifacts: Annotated[
        bool, typer.Option("--artifacts", help="Remove all of such a run: models, logs and records too.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would go, and remove nothing.")
    ] = False,
) -> None:
    """Remove what old runs of Kubeflow no longer need from the object store: their checkpoints and progress.

    \b
    forge clean minio://mlpipeline/v2/artifacts --older-than 30d --dry-run
    forge clean s3://forge/kubeflow/agent-forge --older-than 26w --artifacts

    A run is old when nothing in it was written since, and stays whole until then.
    """
    from ...kubeflow.clean import age, remove, stale

    store, runs = stale(address, older_than=age(older_than), artifacts=artifacts, now=time.time())
    gone = 0
    for run in runs:
        written = time.strftime("%Y-%m-%d", time.localtime(run.touched))
        say(f"{run.run}: last written {written}, {len(run.keys)} objects, {run.bytes:,} bytes")
        if dry_run or remove(store, run):
            gone += run.bytes
        else:
            say(f"{run.run}: it is being written to again; it stays")
    done = "would be removed" if dry_run else "removed"
    say(f"{done}: {gone:,} bytes of runs not written to for {older_than}")
