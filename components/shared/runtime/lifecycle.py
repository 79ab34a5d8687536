"""The life of one phase, from its request to its published artifact."""

from __future__ import annotations

import io
import os
import resource
import socket
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import torch

from . import code, machine, record, start
from .artifact import artifact, base_models, publication, publish_lock
from .artifact.artifact import MANIFEST, Artifact, Manifest
from .artifact.manifest import decode
from .checkpoint import scratch
from .checkpoint.checkpoints import Checkpoints
from .config.settings import Config, parse
from .errors import ArtifactError, ConfigError, Interrupted, PhaseFailed, StoreError
from .gates import check_before, check_gates
from .identity import identity_of, seed_everything
from .measured import scores_of
from .phase import Phase, Run
from .ranks import group
from .record import Outcome
from .request import inputs
from .request.inputs import Request
from .store.uri import open_store
from .tracking import curves, mlflow_tracker
from .tracking.mlflow_lineage import DataSet
from .tracking.mlflow_tracker import Tracker
from .tracking.progress import Progress, Sink
from .tracking.usage import Usage


@dataclass
class Attempts:
    """The tries of one piece of work in this process, and what they share.

    :param number: which one this is, those of pods before this one included.
    :param began: when the first of this process began, in Unix seconds and on the monotonic clock.
    :param sink: who follows the progress from afar.
    """

    number: int = 0
    began: tuple[float, float] = field(default_factory=lambda: (time.time(), time.monotonic()))
    sink: Sink | None = None


@dataclass(frozen=True)
class Work:
    """A request, understood: all that determines the result, and its digests."""

    request: Request
    config: Config[Any]
    inputs: dict[str, list[Artifact]]
    code_version: str
    identity: str
    place: Path
    checkpoints: Checkpoints
    progress: Progress

    @property
    def parents(self) -> list[str]:
        """Digests of the inputs, in the order of their names."""
        return [artifact.digest for name in sorted(self.inputs) for artifact in self.inputs[name]]

    @property
    def metrics(self) -> Path:
        """metrics.jsonl."""
        return self.place / curves.FILE


def perform(
    phase: type[Phase[Any]], request: Request, configs: Path, attempts: Attempts | None = None
) -> Manifest:
    """Do what was asked, unless it is done already.

    :returns: the manifest of what the target holds.
    :raises ConfigError: the request or its settings are wrong, or were made for other code.
    :raises InputError: there is nothing at the address of an input.
    :raises ArtifactError: the target holds another artifact, or an input is damaged.
    :raises StoreError: a store cannot be read or written.
    :raises PhaseFailed: the phase ended without a result.
    :raises GateFailed: a gate with on_fail: stop does not hold.
    :raises Interrupted: SIGTERM came; what was done is in a checkpoint.
    """
    attempts = attempts or Attempts()
    attempts.number += 1
    if group.started_as_rank():
        group.join()
    work = _understand(phase, request, configs, attempts.sink)
    done = published(request.target)
    if done is None:
        publication.refuse_occupied(request.target)
    if done is not None and done.extra.get("identity") != work.identity:
        raise ArtifactError(
            "the target holds another artifact",
            where=request.target,
            why=f"of phase {done.phase}, seed {done.seed}, code {done.code_version}",
            fix="give another target, or delete that artifact first",
        )
    if done is not None:
        group.leave()
    if group.rank():
        _follow(phase, work)
    with scratch.exclusive(work.place):
        if done is None:
            outcome = _tracked(phase, work)
        else:
            outcome = Outcome(done, curves.read(work.metrics))
            scratch.discard(request, work.identity, work.place)
            work.progress.note(
                f"{request.target} holds this very artifact already ({done.digest[:12]}); done"
            )
        record.write(request, outcome, _timing(*attempts.began), attempts.number)
        try:
            if "://" in request.target:
                publish_lock.release(outcome.manifest, open_store(request.target))
            work.checkpoints.clear()
        except (StoreError, ArtifactError) as error:  # the result is there, and complete
            work.progress.note(f"what is not needed any more could not be deleted: {error}")
    return outcome.manifest


def _understand(phase: type[Phase[Any]], request: Request, configs: Path, sink: Sink | None) -> Work:
    steps = [step.name for step in phase.spec.steps]
    if request.step not in steps:
        known = ", ".join(step or "(none)" for step in steps)
        raise ConfigError(
            f"phase {phase.name!r} has no step {request.step!r}", where="--step", fix=f"use one of {known}"
        )
    version = code.code_version(phase.name)
    _refuse_other_code(request.code_version, version)
    config = settings_of(phase, request, configs)
    progress = (
        Progress(phase.name, stream=io.TextIOWrapper(io.FileIO(os.devnull, "w")))  # rank 0 speaks for all
        if group.rank()
        else Progress(phase.name, file=Path(request.progress) if request.progress else None, sink=sink)
    )
    artifacts = inputs.read(request)
    if not request.step:  # the others leave no model
        check_before(config, artifacts)
    identity, name = (
        identity_of(
            config,
            artifacts,
            step=request.step,
            parameters=request.parameters,
            code_version=version,
            with_gates=with_gates,
        )
        for with_gates in (True, False)
    )
    scratch_folder = scratch.path_of(request, name)
    checkpoints = Checkpoints(
        scratch.checkpoint_root(request),
        name,
        every=config.settings.checkpoint_seconds,
        say=progress.note,
        metrics=None if group.rank() else scratch_folder / curves.FILE,
    )
    return Work(request, config, artifacts, version, identity, scratch_folder, checkpoints, progress)


def settings_of(phase: type[Phase[Any]], request: Request, configs: Path) -> Config[Any]:
    """The settings as they were submitted; by hand, composed here."""
    if request.settings:
        if request.profile or request.overrides:
            asked = " ".join(filter(None, (request.profile, *request.overrides)))
            fix = "change the settings themselves, or leave them out"
            raise ConfigError("settings were given whole, and changes beside them", where=asked, fix=fix)
        return parse(phase.name, phase.Settings, request.settings, request.seed or 0)
    if not request.by_hand:
        raise ConfigError(
            "a task was given no settings",
            where="parameter settings",
            fix=f"give those of phase {phase.name} as JSON, as `forge compile` writes them into a pipeline",
        )
    from .config.compose import compose  # Hydra, which no pod needs

    return compose(
        phase.name,
        phase.Settings,
        profile=request.profile or "tiny",
        overrides=request.overrides,
        seed=request.seed,
        configs=configs,
    )


def _refuse_other_code(submitted: str, here: str) -> None:
    """The pipeline was compiled for other code than this image carries: its cache would be wrong."""
    if submitted and submitted != here:
        raise ConfigError(
            "the code here is not what the pipeline was compiled for",
            where="parameter code_version",
            why=f"the pipeline says {submitted}, and this image has {here}",
            fix="build the images of the checkout that you submit from, or submit from the checkout of the images; "
            "an empty code_version takes whatever the image has",
        )


def _tracked(phase: type[Phase[Any]], work: Work) -> Outcome:
    """Live the phase inside its MLflow run."""
    request = work.request
    tracker = Tracker(
        mlflow_tracker.destination(
            request, " ".join(filter(None, (phase.name, request.step))), work.identity
        ),
        file=work.metrics,
        say=work.progress.note,
        patience=mlflow_tracker.POD_PATIENCE if request.in_pod else None,
    )
    status, lines = "FAILED", []
    usage = Usage(tracker.usage, work.place)
    try:
        with usage:
            manifest = _live(phase, work, tracker)
        status = "FINISHED"
        lines = curves.read(work.metrics) if request.record else []
    except (Interrupted, KeyboardInterrupt):
        status = "KILLED"
        raise
    finally:
        work.progress.done()
        tracker.close(status, kept=_kept(work, status))
    return Outcome(manifest, lines, tracker.lineage, curves.thinned(usage.lines))


def _kept(work: Work, status: str) -> str:
    """Where the metrics are, for the case that MLflow has not got them; copied out of the pod where that can be."""
    if status == "FINISHED":
        if not work.request.in_pod:
            return ""
        return "they are in the task's record" if work.request.record else "they are lost with this pod"
    try:
        address = work.checkpoints.put_metrics()
    except StoreError as error:
        address = ""
        work.progress.note(f"the metrics could not be copied to the checkpoints: {error}")
    if not work.request.in_pod:
        return ""
    return f"the metrics are in {address}" if address else "the metrics are lost with this pod"


def _follow(phase: type[Phase[Any]], work: Work) -> NoReturn:
    """Run the phase as a rank beside the first: the same work, of which nothing is kept but its own shards.

    :raises group.Left: its part is done.
    """
    torch.set_num_threads(work.config.settings.threads)
    seed_everything(work.config.seed)
    with tempfile.TemporaryDirectory(prefix="forge-rank-") as folder:
        instance = phase(
            Run(
                config=work.config,
                inputs=work.inputs,
                parameters=work.request.parameters,
                output=Path(folder),
                work=work.place,
                checkpoints=work.checkpoints,
                progress=work.progress,
                tracker=Tracker(),
                step=work.request.step,
            )
        )
        instance.validate_input()
        instance.execute()
        group.leave()
    raise PhaseFailed("a rank was left alone", where=f"rank {group.rank()}")


def _live(phase: type[Phase[Any]], work: Work, tracker: Tracker) -> Manifest:
    began, clock = time.time(), time.monotonic()
    request, config = work.request, work.config
    torch.set_num_threads(config.settings.threads)
    if (asked := config.settings.threads) > (cores := machine.cores()):
        work.progress.note(
            f"{phase.name}.threads is {asked}, and {cores:g} cores can be used here: slower than with as many"
        )
    seed_everything(config.seed)
    # A run goes on in its MLflow run, also where it now writes checkpoints at another pace: no parameter is taken twice.
    own = {name: value for name, value in config.tree[phase.name].items() if name != "checkpoint_seconds"}
    tracker.params({**own, "profile": config.profile, "seed": config.seed, **request.parameters})
    tracker.tags(
        {
            "forge.phase": phase.name,
            "forge.inputs": ",".join(work.parents),
            "forge.config_digest": config.digest,
            "forge.code_version": work.code_version,
            "forge.seed": str(config.seed),
        }
    )
    tracker.inputs(
        [
            DataSet(f"{name}: {artifact.manifest.phase}", artifact.digest, address, "model")
            for name in sorted(work.inputs)
            for artifact, address in zip(work.inputs[name], request.inputs[name], strict=True)
        ]
    )
    with scratch.staging(request, work.identity, work.place) as staging:
        run = Run(
            config=config,
            inputs=work.inputs,
            parameters=request.parameters,
            output=staging,
            work=work.place,
            checkpoints=work.checkpoints,
            progress=work.progress,
            tracker=tracker,
            step=request.step,
        )
        instance = phase(run)
        instance.validate_input()
        instance.execute()
        group.leave()
        work.progress.done()
        if (staging / MANIFEST).exists():
            raise PhaseFailed(
                f"{phase.name} wrote {MANIFEST} itself", fix="leave the manifest to the runtime"
            )
        inputs.require_unchanged(work.inputs)
        _name_base_models(run)
        metrics = {name: float(value) for name, value in instance.get_metrics().items()}
        check_gates(run, metrics)
        start.carry(run.inputs, run.extra)
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
            timing={**run.timing, **_timing(began, clock)},
            extra={**run.extra, "identity": work.identity},
        )
        tracker.metrics({**metrics, **scores_of(run.scores)})
        tracker.tags({"forge.output": manifest.digest})
        if manifest.kind == "model":
            facts = {"forge.address": request.uri or request.target, "forge.bytes": str(manifest.bytes)}
            tracker.made(phase.name, manifest.digest, facts)
        publication.publish(staging, request.target)
        if name := config.settings.register_as:
            tracker.register(staging if "://" in request.target else Path(request.target), name)
            tracker.flush()
    work.progress.note(
        f"published {request.target}: {manifest.bytes:,} bytes, {manifest.parameters:,} parameters, "
        f"digest {manifest.digest[:12]}"
    )
    return manifest


def _name_base_models(run: Run[Any]) -> None:
    """What the result is made of goes into its manifest and its card, with the texts of the licences."""
    parents = [
        (artifact.path, artifact.manifest.extra)
        for name in sorted(run.inputs)
        for artifact in run.inputs[name]
    ]
    extras = [*(extra for _, extra in parents), run.extra]
    if corpora := base_models.inherited(extras, base_models.CORPORA):
        run.extra[base_models.CORPORA] = corpora
    bases = base_models.inherited(extras)
    if not bases:
        return
    run.extra[base_models.KEY] = bases
    base_models.carry_licences(parents, run.output)
    card = run.output / "README.md"
    if card.is_file() and not run.extra.get("card_as_given"):
        card.write_text(base_models.in_card(card.read_text(encoding="utf-8"), bases), encoding="utf-8")


def published(target: str) -> Manifest | None:
    """The manifest of what the target holds already, every byte verified, or None."""
    if "://" not in target:
        return artifact.read(target).manifest if (Path(target) / MANIFEST).is_file() else None
    store = open_store(target)
    if not store.exists(MANIFEST):
        return None
    manifest = decode(store.get(MANIFEST), store.address(MANIFEST))
    publish_lock.published(manifest, store)
    return manifest


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
