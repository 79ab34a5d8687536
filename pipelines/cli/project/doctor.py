"""`forge doctor`: whether everything is there that a run needs."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import typer

from ..options import (
    AsJson,
    Authority,
    BaseModels,
    Cookies,
    Host,
    Namespace,
    Overrides,
    Runs,
    Store,
    Token,
    access,
    console,
    say,
)


def doctor(
    *,
    runs: Runs = Path("runs"),
    store: Store = "",
    host: Host = "",
    namespace: Namespace = "kubeflow",
    token: Token = "",
    cookies: Cookies = "",
    authority: Authority = "",
    base_model: BaseModels,
    profile: Annotated[
        str, typer.Option("--profile", "-p", help="Say what each of its phases takes: configs/profile.")
    ] = "",
    override: Overrides,
    tflops: Annotated[
        float | None, typer.Option(help="Take the machine to reach so many 10¹² operations a second.")
    ] = None,
    gpu_memory: Annotated[
        float | None,
        typer.Option(metavar="GIB", help="Of the GPU that is meant, where it is not this machine's."),
    ] = None,
    host_memory: Annotated[
        float | None,
        typer.Option(metavar="GIB", help="Of the machine that is meant, where it is not this one."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Look whether everything is there that a run needs. The exit code is 1 when something is not.

    \b
    forge doctor
    forge doctor --profile hf-small --base-model ./my-model      # memory, disk, GPU memory and hours of each phase
    forge doctor --profile hf-7b --base-model ./my-7b --gpu-memory 80 --host-memory 256 --tflops 300
    forge doctor --host http://localhost:8080 --namespace kubeflow

    With a kubeconfig, or in a pod, it looks at the cluster too: nodes, what the namespace needs, and what Argo's
    controller makes of a phase that fails.
    """
    from ...doctor.examination import examine

    if profile or base_model:
        _costs(
            base_model,
            profile or "tiny",
            override,
            str(runs),
            tflops,
            gpu_memory,
            host_memory,
            as_json=as_json,
        )
        return

    colours = {"ok": "green", "warn": "yellow", "fail": "bold red"}
    findings = []
    for finding in examine(runs, store, access(host, namespace, token, cookies, authority)):
        findings.append(finding)
        if not as_json:
            console.print(f"[{colours[finding.verdict]}]{finding.verdict:<5}[/]{finding.what:<11}", end="")
            fix = finding.fix.replace("\n", f"\n{'':18}")
            say(finding.found + (f"\n{'':16}→ {fix}" if fix else ""))
    healthy = all(finding.verdict != "fail" for finding in findings)
    if as_json:
        say(json.dumps({"healthy": healthy, "findings": [asdict(finding) for finding in findings]}, indent=1))
    raise typer.Exit(0 if healthy else 1)


def _costs(
    models: list[str],
    profile: str,
    overrides: list[str],
    runs: str,
    tflops: float | None,
    gpu_memory: float | None,
    host_memory: float | None,
    *,
    as_json: bool,
) -> None:
    """A row a phase: what it takes, of what most of its memory is, and whether it fits. The exit code is 1 where not."""
    from components.shared.preflight.estimate import problems
    from components.shared.preflight.throughput import here
    from components.shared.runtime.errors import InputError
    from components.shared.runtime.wording import size

    from ...costs import costs_of, existing
    from ...settings import composed
    from ..analysis.tables import show, table

    configs = composed(profile=profile, overrides=overrides)
    machine = here(str(existing(runs)), tflops=tflops, gpu_memory=gpu_memory)
    if host_memory is not None:
        machine = replace(machine, memory=int(host_memory * 2**30))
    costs = costs_of(models, configs, machine)
    if not costs:
        raise InputError(
            "the model's shape is not known from here",
            where=", ".join(models),
            fix="fetch it first and give its folder: its config.json says what it takes",
        )
    wrong = problems(costs, machine)
    if as_json:
        content = {"machine": asdict(machine), "costs": [asdict(cost) for cost in costs], "problems": wrong}
        say(json.dumps(content, indent=1))
        raise typer.Exit(1 if wrong else 0)
    drawn = table("phase", "memory", "GPU memory", "disk", "hours", "most of it")
    for cost in costs:
        most = ", ".join(f"{name} {size(value)}" for name, value in list(cost.terms.items())[:3])
        device = size(cost.device) if cost.device else "–"
        drawn.add_row(cost.phase, size(cost.host), device, size(cost.disk), f"{cost.hours:.2f}", most)
    show(drawn)
    say(f"on {machine.name}, {size(machine.memory)} of memory, {size(machine.disk)} of disk free")
    for line in wrong:
        say(f"fail {line}")
    raise typer.Exit(1 if wrong else 0)
