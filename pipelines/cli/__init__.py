"""The `forge` command. What a command needs is imported inside it, so that `forge --help` answers at once."""

from __future__ import annotations

import sys
from typing import Any

import typer
from typer.core import TyperGroup

from components.shared.runtime import disk
from components.shared.runtime.errors import ForgeError

from .analysis import analyze, catalog, metrics
from .cluster import clean, retry, submit
from .control import control, dashboard, keys, mcp
from .models import bitnet, compression, evaluate, evo, generate, merge, score
from .options import console
from .overridden import Overridden
from .project import compile, doctor, new_phase, validate
from .runs import cancel, events, logs, phase, prune, report, run_pipeline, status
from .stores import encryption

__all__ = ["app", "console"]


class Commands(TyperGroup):
    """Our errors become a line on stderr and their exit code. Any other exception is a bug, and shows its trace."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Refuse what could neither be shown nor be written down."""
        for argument in args:
            if any("\ud800" <= character <= "\udfff" for character in argument):
                ctx.fail(f"an argument is not UTF-8: {argument!r:.200}")
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was asked for."""
        try:
            return super().invoke(ctx)
        except Exception as error:
            ours = error if isinstance(error, ForgeError) else disk.refusal(error)
            if ours is None:
                raise
            print(f"error: {ours}", file=sys.stderr)
            raise typer.Exit(ours.exit_code) from error


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=True,
    pretty_exceptions_enable=False,
    help="""Forge an agent: eight phases from small base models to one specialised, compressed agent.

    \b
    forge doctor                  is everything here that a run needs?
    forge run-pipeline            all eight phases on this machine (profile tiny: minutes)
    forge status --follow         how far is it?
    forge report                  what did it measure?
    forge generate --prompt "2+2="  what does the agent say?

    \b
    forge dashboard               the page: runs are seen, started, stopped and understood there

    \b
    forge submit --wait           the same on a Kubeflow cluster (--host or KFP_HOST); then
    forge status|logs|cancel|retry RUN --host …

    A run that was stopped or killed goes on with: forge run-pipeline --resume latest""",
)
app.add_typer(bitnet.app, name="bitnet")
app.add_typer(compression.app, name="compression")
app.add_typer(analyze.training, name="training")
app.add_typer(encryption.app, name="encryption")
app.command(cls=Overridden)(run_pipeline.run_pipeline)
app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
)(phase.phase)
app.command()(status.status)
app.command()(logs.logs)
app.command()(events.events)
app.command()(cancel.cancel)
app.command()(retry.retry)
app.command()(report.report)
app.command("generate")(generate.generate)
app.command("test", short_help="The same as generate.")(generate.generate)
app.command()(evaluate.evaluate)
app.command()(score.score)
app.command()(catalog.models)
app.add_typer(metrics.app, name="metrics")
app.command()(analyze.analyze)
app.command(cls=Overridden)(validate.validate)
app.add_typer(merge.app, name="merge")
app.command("evo", cls=Overridden)(evo.evo)
app.command(cls=Overridden)(doctor.doctor)
app.command("compile", cls=Overridden)(compile.compile_)
app.command("new-phase")(new_phase.new_phase)
app.command(cls=Overridden)(submit.submit)
app.command()(clean.clean)
app.command()(prune.prune)
app.command()(dashboard.dashboard)
app.command()(control.control)
app.command()(mcp.mcp)
app.add_typer(keys.app, name="keys")
