"""`forge validate`: whether settings fit, and what would run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...phases import COMPILED
from ..options import AsJson, ClusterName, Overrides, console, say

if TYPE_CHECKING:
    from ...local.plan import Plan


def validate(
    *,
    config: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Options of run-pipeline and settings of phases: JSON or YAML."),
    ] = None,
    profile: Annotated[
        str | None,
        typer.Option("--profile", "-p", help="tiny (default), small, full, hf-small …: docs/profiles.md."),
    ] = None,
    override: Overrides,
    seed: Annotated[int | None, typer.Option(help="Of everything random (default 0).")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan too: tasks, resources, and how long it takes.")
    ] = False,
    cluster: ClusterName = "default",
    tasks: Annotated[
        list[Path] | None,
        typer.Option(
            "--tasks", metavar="FILE", help="Check files of questions (docs/tasks.md), and nothing else."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check the settings of all phases and clusters, and the compiled pipeline, without running anything.

    \b
    forge validate --profile small -O bitnet.threads=4
    forge validate --config run.yaml --dry-run
    forge validate --tasks mine.jsonl
    forge validate --json

    \b
    A file has the options of run-pipeline by their names, and a section a phase (pipelines/request_file.py):
      profile: small
      base_models: [standard, ./my-model]
      enable_compression: false
      bitnet: {steps: 100}
    An unknown key is refused, with the one that was likely meant. forge run-pipeline --config FILE runs it. With
    --dry-run resources on Kubeflow are those of --cluster.
    """
    if tasks:
        _questions(tasks, as_json)
        return
    from ...api import request
    from ...cluster import FOLDER, load
    from ...ir import reader
    from ...local.prepare import prepare
    from ...request_file import merged
    from ...settings import as_parameters, composed

    options = merged(config, {"profile": profile, "overrides": override, "seed": seed})
    chosen = request(**options)
    content: dict[str, Any] = {"phases": {}, "clusters": []}
    settings = composed(profile=chosen.profile or "tiny", overrides=chosen.overrides, seed=chosen.seed)
    for composition in settings.values():
        content["phases"][composition.phase] = {"digest": composition.digest, "settings": composition.tree}
        if not as_json:
            say(f"ok   {composition.phase:<12} {composition.digest[:12]}")
    from ...agent_forge import pipeline, text  # KFP's compiler takes a second: the settings fit

    for path in sorted(FOLDER.glob("*.yaml")):
        graph = pipeline(cluster=load(path.stem), settings=as_parameters(settings), pinned=False)
        reader.parse(text(graph))
        content["clusters"].append(path.stem)
        if not as_json:
            say(f"ok   cluster {path.stem}")
    reader.load(COMPILED)
    content["pipeline"] = str(COMPILED)
    if not as_json:
        say(f"ok   {COMPILED}")
    if config is not None or dry_run:
        plan = prepare(chosen)
        if not as_json and config is not None:
            say(f"ok   {config}")
        if dry_run:
            _plan(plan, cluster, content if as_json else None)
    if as_json:
        say(json.dumps(content, indent=1))


def _questions(files: list[Path], as_json: bool) -> None:
    """Say what files of questions hold.

    :raises InputError: lines are wrong; each of them was named before.
    """
    from components.shared.runtime.errors import InputError
    from components.shared.tasks.file_check import check

    found = [check(file) for file in files]
    if as_json:
        say(json.dumps({report.file: report.as_dict() for report in found}, indent=1))
    for report in found:
        if not as_json:
            for line in report.lines():
                say(line)
    if wrong := sum(len(report.wrong) for report in found):
        names = ", ".join(report.file for report in found if report.wrong)
        raise InputError(
            f"{wrong} lines are wrong", where=names, fix="mend them: docs/tasks.md has every key"
        )


def _plan(plan: Plan, cluster: str, content: dict[str, Any] | None) -> None:
    """Put the plan and its resources into `content`, or print them where there is none."""
    from components.shared.runtime.wording import size

    from ...cluster import load
    from ...local.resources import resources

    needed = resources(plan, load(cluster))
    if content is not None:
        content["plan"] = {**plan.to_json(), "resources": needed.to_json()}
        return
    from ..analysis.tables import show, table
    from ..rendering.plan import table as plan_table

    console.print(plan_table(plan))
    say(
        f"this machine: {needed.cores:g} cores, {size(needed.memory_bytes)}, {size(needed.free_memory_bytes)} of it free; "
        f"{needed.slots} tasks at the same time"
    )
    drawn = table(
        "phase",
        "tasks",
        "threads each",
        "memory each",
        "GPU memory",
        "disk",
        "hours",
        f"pod on Kubeflow ({cluster})",
        "accelerators",
    )
    for phase, share in needed.phases.items():
        pod = ", ".join(f"{value} {name}" for name, value in share.pod.items() if value is not None)
        known = share.peak_memory_bytes or share.expected_memory_bytes
        drawn.add_row(
            phase, str(share.tasks), str(share.threads), size(known) if known else "not known",
            size(share.gpu_memory_bytes) if share.gpu_memory_bytes else "–",
            size(share.disk_bytes) if share.disk_bytes else "–",
            "–" if share.hours is None else f"{share.hours:.1f}", pod, str(share.accelerators or "none"),
        )  # fmt: skip
    show(drawn)
