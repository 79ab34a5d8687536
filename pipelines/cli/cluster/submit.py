"""`forge submit`: runs on a Kubeflow cluster, and the pipelines that its pages start them from."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from components.shared.runtime.errors import ConfigError

from ...phases import PARENTS, PHASES, ROUNDS, WORKERS
from ..options import (
    Artifacts,
    Authority,
    BaseDtype,
    BaseModels,
    ClusterName,
    Cookies,
    First,
    Host,
    Last,
    Namespace,
    Overrides,
    Parameters,
    Profile,
    Rounds,
    Runs,
    Seed,
    Token,
    Trust,
    Workers,
    access,
    console,
    say,
)

if TYPE_CHECKING:
    from ...kubeflow.server import Server


def submit(
    *,
    host: Host,
    namespace: Namespace = "kubeflow",
    token: Token = "",
    cookies: Cookies = "",
    authority: Authority = "",
    experiment: Annotated[str, typer.Option(help="KFP's experiment.")] = "agent-forge",
    name: Annotated[str, typer.Option(help="The run's name (default: the time).")] = "",
    profile: Profile = "tiny",
    seed: Seed = 0,
    override: Overrides,
    base_model: BaseModels,
    base_dtype: BaseDtype = "",
    trust: Trust = "",
    parameter: Parameters,
    first: First = PHASES[0],
    last: Last = PHASES[-1],
    artifact: Artifacts,
    run: Annotated[
        str, typer.Option("--run", metavar="RUN", help="In place of --artifact: what this run has made.")
    ] = "",
    runs: Runs = Path("runs"),
    rounds: Rounds = ROUNDS,
    workers: Workers = WORKERS,
    cluster: ClusterName = "default",
    cache: Annotated[bool, typer.Option(help="Let KFP take results that it has.")] = True,
    upload: Annotated[
        bool,
        typer.Option(
            "--upload", help="Start nothing: put the pipeline of all phases, and one for each, there."
        ),
    ] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Stay until the run has ended.")] = False,
    timeout: Annotated[float, typer.Option(help="Seconds that --wait stays at most.")] = 604800.0,
) -> None:
    """Submit the pipeline, or a range of its phases, to a Kubeflow cluster.

    \b
    forge submit --host http://localhost:8080 --profile small --cluster gpu --wait
    forge submit --from training --to training --run latest --wait
    forge submit --from bitnet --to bitnet --artifact minio://mlpipeline/v2/artifacts/agent-forge/ID/quietstar/ID/model
    forge submit -s accelerator_limit=2 -s 'gpu_node_selector={"pool": "a100"}'
    forge submit --upload --cluster gpu

    \b
    --run names a run on this machine that has a --store, or one of Kubeflow: its id, name, page, or latest.
    With --wait the exit code says how it ended:
      0    the run has succeeded
      9    it has failed; the task and its last lines are named
      75   it was cancelled
      124  it still goes on after --timeout
      130  Ctrl-C: only the looking has ended
      5    the server did not answer at --timeout, or does not know us any more; the run goes on
    """  # fmt: skip
    from ...cluster import load
    from ...costs import fitting_pods
    from ...ir.parameters import settings
    from ...kubeflow import follow
    from ...kubeflow.compiled import prepared
    from ...kubeflow.server import Server
    from ...kubeflow.state.run import Watcher
    from ...settings import from_parameters
    from ..rendering.live import LiveView
    from ..rendering.plan import said

    server = Server(access(host, namespace, token, cookies, authority))
    if upload:
        _upload(server, cluster, workers=workers, rounds=rounds, profile=profile, overrides=override)
        return
    artifacts = _artifacts(server, first, artifact, run, runs)
    graph, parameters = prepared(
        first, last, base_model, artifacts, settings(parameter), profile=profile, overrides=override, seed=seed,
        rounds=rounds, workers=workers, cluster=cluster, base_dtype=base_dtype, trust=trust,
    )  # fmt: skip
    say(str(graph))
    for line in said(fitting_pods(base_model or artifacts, from_parameters(parameters), load(cluster))):
        say(line)
    name = name or f"agent-forge-{time.strftime('%Y%m%d-%H%M%S')}-{profile}"
    started = server.submit(graph.text, parameters, name=name, experiment=experiment, caching=cache)
    say(server.url(started))
    if wait:
        watcher = Watcher.of(server, started)
        with LiveView(console) as screen:
            state = follow.wait(watcher, screen.show, screen.say, timeout=timeout)
        if error := follow.ending(watcher, state):
            raise error
        say("succeeded")


def _artifacts(server: Server, first: str, artifacts: list[str], run: str, runs: Path) -> list[str]:
    """The addresses to start from, which pods can read."""
    from ...kubeflow.starting import check, of_run

    if run and artifacts:
        raise ConfigError(
            "what to start from is given twice", where="--run, --artifact", fix="give one of them"
        )
    addresses = of_run(server, first, run, runs) if run else artifacts
    for address in addresses:
        check(address, say)
    if run:
        for address in addresses:
            say(f"from {address}")
    return addresses


def _upload(
    server: Server, cluster: str, *, workers: int, rounds: int, profile: str, overrides: list[str]
) -> None:
    """The pipeline of all phases and one of each, as versions that their own texts name; what is there stays."""
    from ...kubeflow.compiled import compiled

    ranges = [(PHASES[0], PHASES[-1]), *((phase, phase) for phase in PHASES)]
    new = 0
    for first, last in ranges:
        graph = compiled(
            first, last, parents=PARENTS, workers=workers, rounds=rounds, cluster=cluster, profile=profile,
            overrides=tuple(overrides),
        )  # fmt: skip
        name = graph.pipeline.name
        version = f"{name}-{hashlib.sha256(graph.text.encode()).hexdigest()[:12]}"
        whole = "all phases" if first != last else f"phase {first} alone, on the artifact that is given"
        if server.upload(name, graph.text, version=version, description=f"Agent Forge: {whole}"):
            say(f"new   {version}: {graph}")
            new += 1
        else:
            say(f"there {version}")
    say(f"{new} of {len(ranges)} pipelines are new on {server.host}")
