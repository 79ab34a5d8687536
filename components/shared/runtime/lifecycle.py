"""The life of one phase, from its request to its published artifact."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import random
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock, Timeout

from . import artifact, gates, inputs, tracking
from .artifact import MANIFEST, Artifact, Manifest
from .checkpoint import Checkpoints
from .config import Config, compose, digest_of_tree
from .errors import ArtifactError, ConfigError, ForgeError, GateFailed, Interrupted, LostRace, PhaseFailed
from .inputs import Request
from .manifest import decode
from .phase import Phase, Run
from .progress import Progress
from .store import open_store
from .tracking import Tracker

ROOT = Path(__file__).resolve().parents[3]


def perform(phase: type[Phase], request: Request, configs: Path) -> Manifest:
    """Do what was asked, or find that it is done already."""
    if request.step not in phase.steps:
        known = ", ".join(step or "(none)" for step in phase.steps)
        raise ConfigError(
            f"phase {phase.name!r} has no step {request.step!r}", where="--step", fix=f"use one of {known}"
        )
    config = compose(
        phase.name,
        phase.Settings,
        profile=request.profile,
        overrides=request.overrides,
        seed=request.seed,
        configs=configs,
    )
    progress = Progress(phase.name, file=Path(request.progress) if request.progress else None)
    found = inputs.read(request)
    _check_rollback(config, found)
    version = request.code_version or code_version(phase.name)
    identity = identity_of(phase.name, request, config, found, version)
    done = published(request.target)
    if done is not None:
        _require_same(done, identity, request.target)
        progress.note(
            f"{request.target} holds this very artifact already ({done.digest[:12]}); nothing to do"
        )
        _write_metadata(request, done)
        Checkpoints(_checkpoint_root(request), identity).clear()
        return done
    with _workplace(request, identity) as work:
        tracker = Tracker(
            tracking.destination(
                " ".join(filter(None, (phase.name, request.step))),
                target=request.target,
                by_hand=request.by_hand,
                pipeline_run=request.pipeline_run,
                identity=identity,
            ),
            file=work / "metrics.jsonl",
            say=progress.note,
        )
        status = "FAILED"
        try:
            manifest = _live(phase, request, config, found, version, identity, work, progress, tracker)
            status = "FINISHED"
        except (Interrupted, KeyboardInterrupt):
            status = "KILLED"
            raise
        finally:
            progress.done()
            tracker.close(status, deadline=30.0 if status == "FINISHED" else 10.0)
        if not tracker.broken:
            (work / "metrics.jsonl").unlink(missing_ok=True)
    return manifest


def _live(
    phase: type[Phase],
    request: Request,
    config: Config,
    found: dict[str, list[Artifact]],
    version: str,
    identity: str,
    work: Path,
    progress: Progress,
    tracker: Tracker,
) -> Manifest:
    began, clock = time.time(), time.monotonic()
    torch.set_num_threads(config.settings.threads)
    seed_everything(config.seed)
    parents = [one.digest for name in sorted(found) for one in found[name]]
    tracker.params(
        {**config.tree[phase.name], "profile": config.profile, "seed": config.seed, **request.parameters}
    )
    tracker.tags(
        {
            "forge.phase": phase.name,
            "forge.inputs": ",".join(parents),
            "forge.config_digest": config.digest,
            "forge.code_version": version,
            "forge.seed": str(config.seed),
        }
    )
    staging = _staging(request, identity, work)
    run = Run(
        config=config,
        inputs=found,
        parameters=request.parameters,
        output=staging,
        work=work,
        checkpoints=Checkpoints(
            _checkpoint_root(request), identity, every=config.settings.checkpoint_seconds, say=progress.note
        ),
        progress=progress,
        tracker=tracker,
        step=request.step,
    )
    one = phase(run)
    one.validate_input()
    one.execute()
    progress.done()
    if (staging / MANIFEST).exists():
        raise PhaseFailed(
            f"phase {phase.name!r} wrote {MANIFEST} itself", where=str(staging), fix="leave it to the runtime"
        )
    metrics = {name: float(value) for name, value in one.get_metrics().items()}
    run.scores = {suite: _plain(score) for suite, score in run.scores.items()}
    _check_gates(run, metrics, progress)
    manifest = artifact.seal(
        staging,
        kind=run.kind,
        phase=phase.name,
        parents=parents,
        config=config.tree,
        config_digest=config.digest,
        seed=config.seed,
        code_version=version,
        metrics=metrics,
        scores=run.scores,
        gates=run.gates,
        timing=_timing(began, clock),
        extra={**run.extra, "identity": identity},
    )
    tracker.metrics(metrics)
    tracker.metrics(
        {f"score/{suite}": score["score"] for suite, score in run.scores.items() if "score" in score}
    )
    tracker.tags({"forge.output": manifest.digest})
    artifact.publish(staging, request.target)
    if run.register_as:
        tracker.register(staging if "://" in request.target else Path(request.target), run.register_as)
    _write_metadata(request, manifest)
    run.checkpoints.clear()
    progress.note(
        f"{request.target}: {manifest.bytes:,} bytes, {manifest.parameters:,} parameters, {manifest.digest[:12]}"
    )
    return manifest


def identity_of(
    phase: str, request: Request, config: Config, found: Mapping[str, list[Artifact]], version: str
) -> str:
    """sha256 of everything that determines the result."""
    return digest_of_tree(
        {
            "phase": phase,
            "step": request.step,
            "parameters": request.parameters,
            "config": config.digest,
            "inputs": {name: [one.digest for one in artifacts] for name, artifacts in found.items()},
            "seed": config.seed,
            "code": version,
        }
    )


def seed_everything(seed: int) -> None:
    """Seed the global generators of Python, numpy and torch, and refuse operations that would differ between runs."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is deterministic only with it
    torch.use_deterministic_algorithms(True)


def code_version(phase: str) -> str:
    """The commit, with a digest of what differs from it in the phase's code; outside a checkout the package's version."""
    places = ("components/shared", f"components/{phase}")
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        commit = _git("rev-parse", "HEAD").decode().strip()[:12]
        changes = _git("diff", "HEAD", "--", *places)
        for name in sorted(_git("ls-files", "-zo", "--exclude-standard", *places).decode().split("\0")):
            if name:
                changes += name.encode() + (ROOT / name).read_bytes()
        return f"{commit}+{hashlib.sha256(changes).hexdigest()[:12]}" if changes else commit
    with contextlib.suppress(metadata.PackageNotFoundError):
        return metadata.version("agent-forge")
    return "unknown"


def _git(*arguments: str) -> bytes:
    return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True).stdout


def published(target: str) -> Manifest | None:
    """The manifest of what the target holds already."""
    if "://" not in target:
        return artifact.read(target).manifest if (Path(target) / MANIFEST).is_file() else None
    there = open_store(target)
    return decode(there.get(MANIFEST), there.address(MANIFEST)) if there.exists(MANIFEST) else None


def _require_same(done: Manifest, identity: str, target: str) -> None:
    if done.extra.get("identity") != identity:
        raise ArtifactError(
            "the target holds another artifact",
            where=target,
            why=f"of phase {done.phase}, seed {done.seed}, code {done.code_version}, digest {done.digest[:12]}",
            fix="give another --output, or delete that one first",
        )


def _check_rollback(config: Config, found: Mapping[str, list[Artifact]]) -> None:
    wanted = [gate.metric for gate in config.settings.gates if gate.on_fail == "rollback"]
    if wanted and len(found.get("model", [])) != 1:
        raise ConfigError(
            f"the gate on {wanted[0]!r} would roll back to the input model, and there is not exactly one",
            where=f"{config.phase}.gates",
            fix="use on_fail: stop or warn",
        )


def _check_gates(run: Run, metrics: dict[str, float], progress: Progress) -> None:
    """Check the configured gates; stop, or put the input in place of the output, where one fails."""
    scored = {f"score/{suite}": score["score"] for suite, score in run.scores.items() if "score" in score}
    visible = {**metrics, **scored}
    if len(run.inputs.get("model", [])) == 1:
        before = run.artifact.manifest
        visible.update({f"input/{name}": value for name, value in before.metrics.items()})
        visible.update(
            {f"input/score/{s}": score["score"] for s, score in before.scores.items() if "score" in score}
        )
    results = gates.check(run.settings.gates, visible)
    run.gates = [*run.gates, *results]
    failed = [result for result in results if not result["passed"]]
    for result in failed:
        progress.note(f"gate {gates.describe(result)}, on_fail {result['on_fail']}")
    actions = {result["on_fail"] for result in failed}
    if "stop" in actions:
        lines = "; ".join(gates.describe(result) for result in failed if result["on_fail"] == "stop")
        raise GateFailed(
            "a quality gate does not hold, nothing is published",
            where=f"{run.config.phase}.gates",
            why=lines,
            fix="train longer, or lower the gate if it asks too much",
        )
    if "rollback" in actions:
        _roll_back(run, metrics)
        progress.note("rolled back: the input model is published in place of the output")


def _roll_back(run: Run, metrics: dict[str, float]) -> None:
    source = run.artifact
    shutil.rmtree(run.output)
    run.output.mkdir()
    for name in source.manifest.files:
        (run.output / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source.path / name, run.output / name)
    run.kind = source.kind
    run.extra = {**run.extra, "rolled_back": True, "rejected": {"metrics": metrics, "scores": run.scores}}
    run.scores = source.manifest.scores


def _plain(score: Any) -> dict[str, Any]:
    if dataclasses.is_dataclass(score) and not isinstance(score, type):
        return dataclasses.asdict(score)
    return dict(score)


def _timing(began: float, clock: float) -> dict[str, Any]:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    unit = 1 if sys.platform == "darwin" else 1024
    return {
        "started": began,
        "seconds": time.monotonic() - clock,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "peak_memory_bytes": usage.ru_maxrss * unit,
        "host": socket.gethostname(),
    }


def _checkpoint_root(request: Request) -> str:
    return request.checkpoint_root or f"{request.target.rstrip('/')}.checkpoints"


@contextlib.contextmanager
def _workplace(request: Request, identity: str) -> Iterator[Path]:
    """The scratch directory of this identity, held by one process; it goes after success, and only then."""
    root = _checkpoint_root(request)
    base = Path(tempfile.gettempdir()) / "agent-forge" if "://" in root else Path(root)
    work = base / f"{identity[:16]}.work"
    work.mkdir(parents=True, exist_ok=True)
    lock = FileLock(work / "lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise LostRace(
            "another process is at this very work",
            where=str(work),
            fix="wait for it, or stop it; it is resumed by starting it again",
        ) from None
    try:
        yield work
        if not (work / "metrics.jsonl").exists():
            shutil.rmtree(work, ignore_errors=True)
            with contextlib.suppress(OSError):
                base.rmdir()
    finally:
        lock.release()


def _staging(request: Request, identity: str, work: Path) -> Path:
    """An empty directory on the file system of the target, or in the work directory for s3://."""
    if "://" in request.target:
        staging = work / "output"
    else:
        target = Path(request.target).absolute()
        staging = target.parent / f".{target.name}.{identity[:16]}"
    if staging.exists():
        shutil.rmtree(staging)
    staging.mkdir(parents=True)
    return staging


def _write_metadata(request: Request, manifest: Manifest) -> None:
    """KFP's output metadata, to the file that its input names."""
    if request.output_file is None:
        return
    values = {
        "digest": manifest.digest,
        "bytes": manifest.bytes,
        "parameters": manifest.parameters,
        **manifest.metrics,
    }
    text = json.dumps({"artifacts": {request.output_name: {"artifacts": [{"metadata": values}]}}})
    request.output_file.parent.mkdir(parents=True, exist_ok=True)
    partial = request.output_file.with_name(request.output_file.name + ".partial")
    partial.write_text(text)
    partial.replace(request.output_file)
