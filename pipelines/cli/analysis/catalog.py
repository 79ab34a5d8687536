"""`forge models`: the models that runs have made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ..options import say
from .tables import show, table

if TYPE_CHECKING:
    from ...analysis.catalog import ModelRecord


def models(
    address: Annotated[
        str, typer.Argument(metavar="[ADDRESS]", help="A runs folder, a run's folder, s3://… or minio://….")
    ] = "runs",
    run: Annotated[str, typer.Option(help="Only of this run: its name, or latest.")] = "",
    phase: Annotated[str, typer.Option(help="Only what this phase has made.")] = "",
    sort: Annotated[str, typer.Option(help="run (the order of making), bytes, parameters or score.")] = "run",
    every: Annotated[
        bool, typer.Option("--all", help="Trunks and populations too, not only models.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object in place of the table.")] = False,
) -> None:
    """List the models that runs have made: run, phase, digest, size, scores, and what each was made from.

    \b
    forge models
    forge models --run latest --sort score
    forge models s3://forge/runs --phase compression --json

    Only manifests are read, no weights. Digests are cut to twelve characters; --json has them whole.
    """
    import json
    from typing import get_args

    from components.shared.runtime.errors import ConfigError
    from components.shared.runtime.wording import did_you_mean

    from ...analysis import catalog

    orders = get_args(catalog.Order)
    if sort not in orders:
        raise ConfigError(f"there is no order {sort!r}", where="--sort", fix=did_you_mean(sort, orders))
    kinds = ("model", "trunk", "population") if every else ("model",)
    listed = catalog.catalog(address, run=run, phase=phase, kinds=kinds, order=sort)  # type: ignore[arg-type]
    for text in listed.damaged:
        typer.echo(f"left out: {text}", err=True)
    if as_json:
        typer.echo(json.dumps(catalog.to_json(listed), indent=1))
        return
    if not listed.models:
        say("there is no model here yet: forge run-pipeline makes some")
        return
    _table(listed.models)


def _table(records: list[ModelRecord]) -> None:
    """A line a model; scores in percent."""
    from components.shared.runtime.wording import count, size

    suites = list(dict.fromkeys(suite for record in records for suite in record.scores))
    drawn = table("run", "phase", "digest", "made from", "parameters", "bytes", *suites, text=4)
    for record in records:
        detail = record.variant or (record.kind if record.kind != "model" else "")
        scores = [f"{100 * record.scores[suite]:.0f}" if suite in record.scores else "–" for suite in suites]
        drawn.add_row(
            record.run or record.address, " · ".join(filter(None, (record.phase, detail))), record.digest[:12],
            " ".join(parent[:6] for parent in record.parents), count(record.parameters), size(record.bytes), *scores,
        )  # fmt: skip
    show(drawn)
