"""The `forge` command. What a command needs is imported inside it, so that `forge --help` answers at once."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperGroup

from components.shared.runtime.errors import ForgeError, Interrupted, PhaseFailed

from . import bitnet_command, compression_command, evo_command, merge_command
from .phases import COMPILED, PHASES, ROUNDS, between

console = Console(width=None if sys.stdout.isatty() else 120)


class Commands(TyperGroup):
    """Our errors become a line on stderr and their exit code. Any other exception is a bug, and shows its trace."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except ForgeError as error:
            print(f"error: {error}", file=sys.stderr)
            raise typer.Exit(error.exit_code) from error


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="""Forge an agent: eight phases from small base models to one specialised, compressed agent.

    \b
    forge doctor                  is everything here that a run needs?
    forge run-pipeline            all eight phases on this machine (profile tiny: minutes)
    forge status --follow         how far is it?
    forge report                  what did it measure?
    forge test --prompt "2+2="    what does the agent say?

    A run that was stopped or killed goes on with: forge run-pipeline --resume latest""",
)
app.add_typer(bitnet_command.app, name="bitnet")
app.add_typer(compression_command.app, name="compression")
app.command("merge")(merge_command.merge)
app.command("evo")(evo_command.evo)

Runs = Annotated[Path, typer.Option(help="The folder of all runs.")]
Run = Annotated[str, typer.Argument(help="A run's name, its folder, or latest.")]
Profile = Annotated[str, typer.Option("--profile", "-p", help="tiny, small or full: configs/profile.")]
Overrides = Annotated[
    list[str],
    typer.Option(
        "--override", "-O", metavar="PHASE.KEY=VALUE", help="Change a setting; repeatable.",
        default_factory=list, show_default=False,
    ),
]  # fmt: skip
Parameters = Annotated[
    list[str],
    typer.Option(
        "--set", "-s", metavar="NAME=VALUE", help="Set a parameter of the pipeline; repeatable.",
        default_factory=list, show_default=False,
    ),
]  # fmt: skip
BaseModels = Annotated[
    list[str],
    typer.Option(
        "--base-model", "-m", metavar="NAME|PLACE", default_factory=list, show_default=False,
        help="standard, memory, reasoning; or a Hugging Face model: folder or s3://…; repeatable.",
    ),
]  # fmt: skip
Artifacts = Annotated[
    list[str],
    typer.Option(
        "--artifact", "-a", metavar="PLACE", default_factory=list, show_default=False,
        help="What --from starts with: a folder or s3://…; evomerge takes several.",
    ),
]  # fmt: skip
Seed = Annotated[int, typer.Option(help="Of everything random.")]
First = Annotated[str, typer.Option("--from", metavar="PHASE", help="The first phase to run.")]
Last = Annotated[str, typer.Option("--to", metavar="PHASE", help="The last phase to run.")]
Rounds = Annotated[int, typer.Option(help="Fan-outs of evomerge; fixed when compiling.")]
ClusterName = Annotated[str, typer.Option("--cluster", help="default, gpu or kind: configs/cluster.")]
Store = Annotated[
    str, typer.Option(metavar="PLACE", help="Keep artifacts here too: s3://bucket/prefix or a folder.")
]
Host = Annotated[
    str, typer.Option(envvar="KFP_HOST", help="The Kubeflow Pipelines API, such as http://localhost:8080.")
]


def _given(
    overrides: list[str], base_models: list[str], parameters: list[str], **named: Any
) -> dict[str, Any]:
    """The pipeline's parameters that were given on the command line, and no others."""
    from .parameters import settings

    named |= {"overrides": overrides or None, "base_models": base_models or None}
    return {**{name: value for name, value in named.items() if value is not None}, **settings(parameters)}


@app.command("run-pipeline")
def run_pipeline(
    *,
    profile: Annotated[
        str | None, typer.Option("--profile", "-p", help="tiny (default), small or full.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of everything random (default 0).")] = None,
    override: Overrides,
    base_model: BaseModels,
    parameter: Parameters,
    first: First = PHASES[0],
    last: Last = PHASES[-1],
    artifact: Artifacts,
    resume: Annotated[str, typer.Option(metavar="RUN", help="Go on with this run (or latest).")] = "",
    name: Annotated[str, typer.Option(help="The run's name (default: the time).")] = "",
    runs: Runs = Path("runs"),
    store: Store = "",
    slots: Annotated[
        int, typer.Option(help="Phases at the same time (default: one for two cores, at least three).")
    ] = 0,
    rounds: Rounds = ROUNDS,
    pipeline: Annotated[Path | None, typer.Option(help="A compiled pipeline in place of our own.")] = None,
    cache: Annotated[bool, typer.Option(help="Take what an earlier run has made of the same.")] = True,
) -> None:
    """Run the phases on this machine, one process each.

    \b
    forge run-pipeline
    forge run-pipeline --profile small --seed 7 -O bitnet.threads=4 -s generations=8
    forge run-pipeline --to bitnet      # later: forge run-pipeline --resume latest
    forge run-pipeline --from training --artifact runs/demo/artifacts/bitnet/output_model
    forge run-pipeline --base-model ./my-model --base-model standard
    forge run-pipeline --store s3://forge/runs

    Ctrl-C lets the phases write their checkpoints; --resume goes on from there. A finished phase does not run again as
    long as its inputs, its settings and its code stay what they were.
    """
    from .launch import Wish, run

    ended = run(
        Wish(
            runs=runs, name=name, resume=resume, first=first, last=last, artifacts=artifact, pipeline=pipeline,
            parameters=_given(override, base_model, parameter, profile=profile, seed=seed),
            rounds=rounds, store=store, slots=slots, cache=cache,
        ),
        console,
    )  # fmt: skip
    for status in ended.folder.tasks():
        if status.status == "failed":
            _say(f"failed: {status.task}: {status.error}\n        {ended.folder.task(status.task).log}")
    if ended.ending != "succeeded":
        _say(f"go on with: forge run-pipeline --resume {ended.folder.path}")
        raise typer.Exit((Interrupted if ended.ending == "interrupted" else PhaseFailed).exit_code)


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
)
def phase(context: typer.Context, name: Annotated[str, typer.Argument(help="One of the eight.")]) -> None:
    """Run one phase by hand; `forge phase NAME --help` lists its options.

    \b
    forge phase quietstar --input runs/demo/artifacts/evomerge/model --output /tmp/thinker
    forge phase cognate --step trunk --output /tmp/trunk
    """
    from .identity import ROOT

    if name in ("--help", "-h"):
        typer.echo(context.get_help())
        return
    between(name, name)
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH", ""))))
    arguments = [sys.executable, "-m", f"components.{name}", *context.args]
    os.execve(sys.executable, arguments, {**os.environ, "PYTHONPATH": path})


@app.command()
def status(
    run: Run = "latest",
    runs: Runs = Path("runs"),
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Stay until the run has ended.")] = False,
) -> None:
    """Show how far a run is: its phases, their progress, the time that they still need."""
    from rich.live import Live

    from . import view
    from .run_folder import find

    folder = find(runs, run)
    active = folder.active()
    if not (follow and active):
        console.print(view.table(folder, active=active))
        return
    with Live(console=console, auto_refresh=False) as live:
        while active:
            active = folder.active()
            live.update(view.table(folder, active=active), refresh=True)
            time.sleep(1)


@app.command()
def report(run: Run = "latest", runs: Runs = Path("runs")) -> None:
    """Write a run's report again, and print its table."""
    from .report import page, terminal
    from .run_folder import find

    folder = find(runs, run)
    written = page.write(folder.path)
    console.print(terminal.table(folder.path))
    _say(f"report: {written}")


@app.command()
def test(
    prompt: Annotated[str, typer.Option(help="What to ask.")],
    place: Annotated[
        str, typer.Argument(metavar="[RUN|FOLDER]", help="A run's last model, or a model.")
    ] = "latest",
    runs: Runs = Path("runs"),
    tokens: Annotated[int, typer.Option(help="At most so many new tokens.")] = 64,
    sample: Annotated[bool, typer.Option(help="Draw the answer, instead of the most probable one.")] = False,
    seed: Seed = 0,
) -> None:
    """Ask the agent something.

    \b
    forge test --prompt "12+7="
    forge test --prompt "12+7=" runs/demo/artifacts/evomerge/model
    """
    from .answer import agent_of, answer

    agent = agent_of(runs, place)
    _say(f"{agent}\n{answer(agent, prompt, tokens=tokens, sample=sample, seed=seed)}")


@app.command()
def validate(*, profile: Profile = "tiny", override: Overrides, seed: Seed = 0) -> None:
    """Check the settings of all phases and clusters, and the compiled pipeline, without running anything."""
    from components.shared.runtime.config import validate_all

    from . import ir_yaml
    from .agent_forge import pipeline, text
    from .cluster import FOLDER, load

    for config in validate_all(profile, override, seed=seed):
        _say(f"ok   {config.phase:<12} {config.digest[:12]}")
    for path in sorted(FOLDER.glob("*.yaml")):
        ir_yaml.parse(text(pipeline(cluster=load(path.stem))))
        _say(f"ok   cluster {path.stem}")
    ir_yaml.load(COMPILED)
    _say(f"ok   {COMPILED}")


@app.command()
def doctor(runs: Runs = Path("runs"), store: Store = "", host: Host = "") -> None:
    """Look whether everything is there that a run needs. The exit code is 1 when something is not."""
    from .doctor import examine

    colours = {"ok": "green", "warn": "yellow", "fail": "bold red"}
    failed = False
    for one in examine(runs, store, host):
        console.print(f"[{colours[one.verdict]}]{one.verdict:<5}[/]{one.what:<11}", end="")
        _say(one.found + (f"\n{'':16}→ {one.fix}" if one.fix else ""))
        failed |= one.verdict == "fail"
    raise typer.Exit(1 if failed else 0)


@app.command("compile")
def compile_(
    output: Annotated[Path, typer.Option("--output", "-o", help="Where the YAML goes.")] = COMPILED,
    first: First = PHASES[0],
    last: Last = PHASES[-1],
    rounds: Rounds = ROUNDS,
    cluster: ClusterName = "default",
) -> None:
    """Compile the pipeline for Kubeflow Pipelines.

    \b
    forge compile
    forge compile --cluster gpu --rounds 4 -o gpu.yaml
    forge compile --from training --to training -o training.yaml

    AGENT_FORGE_IMAGE_<PHASE>, where it is set, is the image of a phase: an address in a registry, pinned by digest.
    """
    from . import ir_yaml
    from .agent_forge import pipeline, text
    from .cluster import load
    from .run_folder import write_text

    compiled = text(pipeline(start=first, end=last, rounds=rounds, cluster=load(cluster)))
    found = ir_yaml.parse(compiled)
    write_text(output, compiled)
    _say(f"{found.name}: {len(compiled.encode()):,} bytes → {output}")


@app.command()
def submit(
    *,
    host: Host,
    namespace: Annotated[
        str, typer.Option(envvar="KFP_NAMESPACE", help="Where the run belongs.")
    ] = "kubeflow",
    token: Annotated[str, typer.Option(envvar="KFP_TOKEN", help="A bearer token, if it wants one.")] = "",
    experiment: Annotated[str, typer.Option(help="KFP's experiment.")] = "agent-forge",
    name: Annotated[str, typer.Option(help="The run's name (default: the time).")] = "",
    profile: Profile = "tiny",
    seed: Seed = 0,
    override: Overrides,
    base_model: BaseModels,
    parameter: Parameters,
    first: First = PHASES[0],
    last: Last = PHASES[-1],
    artifact: Artifacts,
    rounds: Rounds = ROUNDS,
    cluster: ClusterName = "default",
    cache: Annotated[bool, typer.Option(help="Let KFP take results that it has.")] = True,
    wait: Annotated[bool, typer.Option("--wait", help="Stay until the run has ended.")] = False,
    timeout: Annotated[float, typer.Option(help="Seconds that --wait stays at most.")] = 604800.0,
) -> None:
    """Submit the pipeline, or a range of its phases, to a Kubeflow cluster.

    \b
    forge submit --host http://localhost:8080 --profile small --cluster gpu --wait
    forge submit --from training --to training --artifact s3://forge/runs/demo/artifacts/bitnet/output_model
    forge submit -s accelerator_limit=2 -s 'node_selector={"pool": "a100"}'
    """
    from . import ir_yaml
    from .agent_forge import pipeline, text
    from .cluster import load
    from .parameters import artifact_parameters, for_the_cache, given_parameters
    from .submit import Server

    compiled = text(pipeline(start=first, end=last, rounds=rounds, cluster=load(cluster)))
    given = for_the_cache(profile, override, seed) | artifact_parameters(first, artifact)
    given |= _given(override, base_model, parameter, profile=profile, seed=seed)
    parameters = given_parameters(given, ir_yaml.parse(compiled).root.parameters)
    server = Server(host, namespace, token)
    name = name or f"agent-forge-{time.strftime('%Y%m%d-%H%M%S')}-{profile}"
    run = server.submit(compiled, parameters, name=name, experiment=experiment, caching=cache)
    _say(server.url(run))
    if wait:
        server.wait(run, timeout)
        _say("succeeded")


def script(*, one_phase: bool = False) -> None:
    """The command line of agent_forge.py, and of single_phase.py, which takes the phase as its second argument."""
    arguments = sys.argv[1:]
    if arguments[:1] == ["run"]:
        arguments[0] = "run-pipeline"
    if one_phase and len(arguments) > 1:
        chosen = arguments.pop(1)
        arguments += ["--from", chosen, "--to", chosen]
    app(arguments, prog_name=Path(sys.argv[0]).name)


def _say(text: str) -> None:
    """A line as it is: paths and prompts are no markup, and are not wrapped."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


if __name__ == "__main__":
    app()
