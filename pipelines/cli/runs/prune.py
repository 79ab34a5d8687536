"""`forge prune`: old runs off this machine."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from ..options import Runs, say


def prune(
    keep: Annotated[int, typer.Option("--keep", "-k", metavar="N", help="How many of the newest runs stay.")],
    runs: Runs = Path("runs"),
    dry_run: Annotated[
        bool, typer.Option("--dry-run", "-n", help="Say what would go, and remove nothing.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask first.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object; nothing is asked: give --yes.")
    ] = False,
) -> None:
    """Remove old runs from the runs folder: their models, logs and checkpoints.

    \b
    forge prune --keep 5 --dry-run
    forge prune --keep 5
    forge prune --keep 3 --runs /data/runs --yes

    The newest N stay, runs that run now, and each run in which lies what a kept one was started with. What newer runs
    have taken from the cache stays theirs. A store behind --store and MLflow's database are not touched; runs of
    Kubeflow are cleaned by forge clean.
    """
    import json

    from components.shared.runtime.errors import ConfigError
    from components.shared.runtime.wording import size

    from ...runs import prune as pruning

    planned = pruning.plan(runs, keep=keep)
    if not dry_run and not yes and planned.removed and (as_json or not sys.stdin.isatty()):
        raise ConfigError(
            "runs would be removed, and nobody can be asked here",
            where=str(runs), fix="look with --dry-run, then give --yes",
        )  # fmt: skip
    if as_json:
        done = planned if dry_run else pruning.remove(planned)
        typer.echo(json.dumps({**done.to_json(), "dry_run": dry_run}, indent=1))
        return
    for text in planned.skipped:
        say(f"left alone   {text}")
    for use in planned.kept:
        say(f"stays        {use.folder.name}: {size(use.bytes)}, {use.reason}")
    for use in planned.removed:
        shared = "" if use.freed == use.bytes else f", {size(use.freed)} of them its own"
        say(f"{'would go' if dry_run else 'goes':<12} {use.folder.name}: {size(use.bytes)}{shared}")
    if not planned.removed:
        say(f"nothing to remove: {len(planned.kept)} runs, all of them stay")
        return
    if dry_run:
        say(f"would free {size(planned.freed)}")
        return
    if not yes:
        typer.confirm(f"Remove them, and free {size(planned.freed)}?", abort=True)
    done = pruning.remove(planned)
    for use in done.kept[len(planned.kept) :]:
        say(f"stays        {use.folder.name}: {use.reason}")
    names = ", ".join(use.folder.name for use in done.removed)
    say(f"removed {names or 'nothing'}, freed {size(done.freed)}")
