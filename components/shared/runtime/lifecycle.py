"""The life of one phase, from its request to its published artifact."""

from __future__ import annotations

import contextlib
import json
import resource
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from . import artifact, inputs, tracking
from .artifact import MANIFEST, Artifact, Manifest
from .checkpoint import Checkpoints
from .config import Config, compose
from .errors import ArtifactError, ConfigError, Interrupted, LostRace, PhaseFailed
from .identity import code_version, identity_of, seed_everything
from .inputs import Request
from .manifest import decode
from .phase import Phase, Run
from .places import open_store
from .progress import Progress
from .tracking import Tracker
from .verdict import check_rollback, judge, scores_of


@dataclass(frozen=True)
class Work:
    """A request, understood: all that determines the result, and its digests."""

    request: Request
    config: Config
    inputs: dict[str, list[Artifact]]
    code_version: str
    identity: str
    checkpoints: Checkpoints
    progress: Progress

    @property
    def parents(self) -> list[str]:
        return [one.digest for name in sorted(self.inputs) for one in self.inputs[name]]


def perform(phase: type[Phase], request: Request, configs: Path) -> Manifest:
    """Do what was asked, or find that it is done already. Returns the manifest of what the target holds."""
    work = _understand(phase, request, configs)
    done = published(request.target)
    if done is not None and done.extra.get("identity") != work.identity:
        raise ArtifactError(
            "the target holds another artifact",
            where=request.target,
            why=f"of phase {done.phase}, seed {done.seed}, code {done.code_version}",
            fix="give another target, or delete that artifact first",
        )
    with _place_for(work) as place:
        if done is None:
            manifest = _tracked(phase, work, place)
        else:
            manifest = done
            work.progress.note(
                f"{request.target} holds this very artifact already ({done.digest[:12]}); done"
            )
        _write_metadata(request, manifest)
        work.checkpoints.clear()
    return manifest


def _understand(phase: type[Phase], request: Request, configs: Path) -> Work:
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
    check_rollback(config, found)
    version = request.code_version or code_version(phase.name)
    identity, name = (
        identity_of(
            config,
            found,
            step=request.step,
            parameters=request.parameters,
            code_version=version,
            with_gates=with_gates,
        )
        for with_gates in (True, False)
    )
    checkpoints = Checkpoints(
        checkpoint_root(request), name, every=config.settings.checkpoint_seconds, say=progress.note
    )
    return Work(request, config, found, version, identity, checkpoints, progress)


def _tracked(phase: type[Phase], work: Work, place: Path) -> Manifest:
    """Live the phase inside its MLflow run."""
    request = work.request
    tracker = Tracker(
        tracking.destination(
            " ".join(filter(None, (phase.name, request.step))),
            target=request.target,
            by_hand=request.by_hand,
            pipeline_run=request.pipeline_run,
            identity=work.identity,
        ),
        file=place / tracking.FILE,
        say=work.progress.note,
    )
    status = "FAILED"
    try:
        manifest = _live(phase, work, place, tracker)
        status = "FINISHED"
    except (Interrupted, KeyboardInterrupt):
        status = "KILLED"
        raise
    finally:
        work.progress.done()
        tracker.close(status)
    return manifest


def _live(phase: type[Phase], work: Work, place: Path, tracker: Tracker) -> Manifest:
    began, clock = time.time(), time.monotonic()
    request, config = work.request, work.config
    torch.set_num_threads(config.settings.threads)
    seed_everything(config.seed)
    tracker.params(
        {**config.tree[phase.name], "profile": config.profile, "seed": config.seed, **request.parameters}
    )
    tracker.tags(
        {
            "forge.phase": phase.name,
            "forge.inputs": ",".join(work.parents),
            "forge.config_digest": config.digest,
            "forge.code_version": work.code_version,
            "forge.seed": str(config.seed),
        }
    )
    with _staging(work, place) as staging:
        run = Run(
            config=config,
            inputs=work.inputs,
            parameters=request.parameters,
            output=staging,
            work=place,
            checkpoints=work.checkpoints,
            progress=work.progress,
            tracker=tracker,
            step=request.step,
        )
        living = phase(run)
        living.validate_input()
        living.execute()
        work.progress.done()
        if (staging / MANIFEST).exists():
            raise PhaseFailed(
                f"{phase.name} wrote {MANIFEST} itself", fix="leave the manifest to the runtime"
            )
        metrics = {name: float(value) for name, value in living.get_metrics().items()}
        judge(run, metrics)
        manifest = artifact.seal(
            staging,
            kind=run.kind,
            phase=phase.name,
            parents=work.parents,
            config=config.tree,
            config_digest=config.digest,
            seed=config.seed,
            code_version=work.code_version,
            metrics=metrics,
            scores=run.scores,
            gates=run.gates,
            timing=_timing(began, clock),
            extra={**run.extra, "identity": work.identity},
        )
        tracker.metrics({**metrics, **scores_of(run.scores)})
        tracker.tags({"forge.output": manifest.digest})
        artifact.publish(staging, request.target)
        if run.register_as:
            tracker.register(staging if "://" in request.target else Path(request.target), run.register_as)
            tracker.flush()
    work.progress.note(
        f"published {request.target}: {manifest.bytes:,} bytes, {manifest.parameters:,} parameters, "
        f"digest {manifest.digest[:12]}"
    )
    return manifest


def published(target: str) -> Manifest | None:
    """The manifest of what the target holds already, or None. A folder is verified in full."""
    if "://" not in target:
        return artifact.read(target).manifest if (Path(target) / MANIFEST).is_file() else None
    there = open_store(target)
    return decode(there.get(MANIFEST), there.address(MANIFEST)) if there.exists(MANIFEST) else None


def checkpoint_root(request: Request) -> str:
    """Where checkpoints go: as asked, or beside the output."""
    return request.checkpoint_root or f"{request.target.rstrip('/')}.checkpoints"


@contextlib.contextmanager
def _place_for(work: Work) -> Iterator[Path]:
    """The scratch directory of this work, held by one process at a time; gone after success."""
    root = checkpoint_root(work.request)
    base = Path(tempfile.gettempdir()) / "agent-forge" if "://" in root else Path(root)
    place = base / f"{work.checkpoints.identity[:16]}.work"
    place.mkdir(parents=True, exist_ok=True)
    lock = FileLock(place / "lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise LostRace(
            "another process is doing this very work", where=str(place), fix="wait for it, or stop it"
        ) from None
    done = False
    try:
        yield place
        done = True
    finally:
        left = {path.name for path in place.iterdir()} - {"lock"}
        if not left or (done and tracking.FILE not in left):  # metrics that MLflow has not got are kept
            shutil.rmtree(place, ignore_errors=True)
            with contextlib.suppress(OSError):  # other work may be there
                base.rmdir()
        lock.release()


@contextlib.contextmanager
def _staging(work: Work, place: Path) -> Iterator[Path]:
    """An empty directory on the file system of the target; in the work's own place for s3://."""
    staging = place / "output"
    if "://" not in work.request.target:
        target = Path(work.request.target).absolute()
        staging = target.parent / f".{target.name}.{work.identity[:16]}"
    shutil.rmtree(staging, ignore_errors=True)  # what a killed process left
    staging.mkdir(parents=True)
    try:
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _timing(began: float, clock: float) -> dict[str, Any]:
    """What this process took; a phase that was killed before has spent more."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "started": began,
        "seconds": time.monotonic() - clock,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "peak_memory_bytes": usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
        "peak_device_memory_bytes": torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0,
        "host": socket.gethostname(),
    }


def _write_metadata(request: Request, manifest: Manifest) -> None:
    """KFP's output metadata, to the file that its input names."""
    if request.output_file is None:
        return
    sizes = {"digest": manifest.digest, "bytes": manifest.bytes, "parameters": manifest.parameters}
    found = {"metadata": {**manifest.metrics, **sizes}}
    request.output_file.parent.mkdir(parents=True, exist_ok=True)
    partial = request.output_file.with_name(f"{request.output_file.name}.partial")
    partial.write_text(
        json.dumps({"artifacts": {request.output_name: {"artifacts": [found]}}}), encoding="utf-8"
    )
    partial.replace(request.output_file)
