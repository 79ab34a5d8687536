"""`forge analyze` and `forge training analyze`: how a training went."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..options import Run, Runs, say
from .tables import number, show, sparkline, table

if TYPE_CHECKING:
    from ...analysis.training_report import StageReport, TrainingReport

training = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="The ten stages of phase training.")

Plot = Annotated[Path | None, typer.Option(metavar="FILE", help="Draw it too: FILE.svg or FILE.html.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object, with whole curves.")]


def analyze(
    checkpoint: Annotated[
        str,
        typer.Option(
            "--checkpoint", "-c", metavar="PLACE",
            help="A checkpoint, an artifact, a run's folder or one of its tasks': folder, s3://… or minio://….",
        ),
    ],
    plot: Plot = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Show how a training went, from what it has written: trajectory, losses, regimes, ID/d, Grokfast's λ.

    \b
    forge analyze --checkpoint runs/demo/tasks/training/checkpoints
    forge analyze --checkpoint runs/demo/artifacts/bitnet/model
    forge analyze --checkpoint s3://forge/runs/demo/artifacts/training/model --plot training.svg
    forge analyze --checkpoint runs/demo --json

    Of phase training each stage is shown, of other phases their curves. Nothing is computed anew and no weight is
    read; pickled checkpoints (.pt) are refused.
    """
    from ...analysis.trainings import analyse

    _show(analyse(checkpoint), plot, as_json)


@training.callback()
def _group() -> None:
    """Keeps `analyze` a subcommand while it is the only one."""


@training.command("analyze")
def analyze_run(
    run: Run = "latest",
    plot: Plot = None,
    runs: Runs = Path("runs"),
    as_json: Json = False,
) -> None:
    """Show the ten stages of a run's phase training: losses, kept or undone, success, regime, ID/d, Grokfast's λ.

    \b
    forge training analyze
    forge training analyze demo --plot stages.html
    forge training analyze latest --json

    A training that still runs, or was stopped, is shown as its newest checkpoint knows it.

    \b
    regime         from one stage to the next
      memorising   the loss on training items falls, the held-out loss does not
      grokking     the held-out loss falls although the training loss does not, or the intrinsic dimension falls
      generalising both losses fall
      converged    nothing moves
      diverging    the training loss rises
    ID/d is the intrinsic dimension (TwoNN) of the last hidden state, over the hidden size.
    """
    from ...analysis.trainings import of_run
    from ...runs.folder import find

    _show(of_run(find(runs, run)), plot, as_json)


def _show(report: TrainingReport, plot: Path | None, as_json: bool) -> None:
    import json

    from ...analysis.training_report import Written

    if plot is not None:
        from ...analysis import plots, training_plot

        plots.check_file(plot)
        title = f"{report.phase}: {report.run or report.source}"
        plots.write(plot, training_plot.draw(report), title, "\n".join(_facts(report)))
    if as_json:
        typer.echo(json.dumps(report.to_json(), indent=1))
        return
    for line in _facts(report):
        say(line)
    if report.stages:
        drawn = table(
            "",
            "stage",
            "state",
            "regime",
            "held-out loss",
            "train loss",
            "success",
            "in band",
            "ID",
            "ID/d",
            "λ",
            text=4,
        )
        for stage in report.stages:
            drawn.add_row(*_row(stage))
        show(drawn)
    curves = table("curve", "last", "lowest", "highest", "")
    curves.columns[-1].justify = "left"
    for title, spec in report.curves.items():
        for name, values in spec["series"].items():
            if report.stages and (title, name) not in (Written.LOSS, Written.SUCCESS):
                continue  # the table of the stages has it
            if finite := [value for value in values if value is not None]:
                span = (number(finite[-1]), number(min(finite)), number(max(finite)))
                curves.add_row(f"{title}: {name}" if name != title else title, *span, sparkline(finite))
    if curves.row_count:
        show(curves)
    if plot is not None:
        say(f"plot: {plot}")


def _row(stage: StageReport) -> tuple[str, ...]:
    """A stage as the cells of its line."""
    state = {True: "kept", False: "undone", None: stage.state}[stage.kept]
    if stage.state == "running":
        state = f"at {stage.steps_done}/{stage.steps or '?'}"
    losses = (
        _change(stage.loss_before, stage.loss_after),
        _change(stage.train_loss_before, stage.train_loss_after),
    )
    shares = ("" if share is None else f"{100 * share:.0f} %" for share in (stage.success, stage.in_band))
    dimension = "" if stage.dimension is None else f"{stage.dimension:.2f}"
    dimension_share = "" if stage.dimension_share is None else f"{stage.dimension_share:.4f}"
    strength = "?" if stage.strength is None else f"{stage.strength:g}" if stage.strength else "off"
    return (
        str(stage.number), stage.name, state, stage.regime or "", *losses, *shares, dimension, dimension_share, strength
    )  # fmt: skip


def _change(before: float | None, after: float | None) -> str:
    """A loss before and after; what is not known yet is left open."""
    if before is None:
        return ""
    return f"{before:.3f} →" if after is None else f"{before:.3f} → {after:.3f}"


def _facts(report: TrainingReport) -> list[str]:
    """What is said above the table."""
    facts = [f"{report.kind} of phase {report.phase}: {report.source}"]
    if report.stages:
        ended = [stage for stage in report.stages if stage.kept is not None]
        kept = sum(bool(stage.kept) for stage in ended)
        facts.append(f"{kept} of {len(ended)} stages kept; regime that held: {report.regime or 'none yet'}")
    if report.grokfast is None:
        strength = ""
    elif not report.grokfast:
        strength = "off"
    else:
        strength = ", ".join(f"{name} {value:g}" for name, value in report.grokfast.items())
    if strength:
        facts.append(f"Grokfast: {strength}")
    if report.band and report.stages:
        facts.append(f"band at the edge of chaos: {100 * report.band[0]:.0f}–{100 * report.band[1]:.0f} %")
    return facts
