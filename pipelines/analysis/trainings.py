"""Where a training's report is read from: an artifact, a checkpoint, or the task of a run that made, or makes, them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.shared.runtime.artifact.manifest import MANIFEST, decode
from components.shared.runtime.errors import ForgeError, InputError, MissingKey
from components.shared.runtime.store.interface import Store
from components.shared.runtime.store.uri import open_store

from ..runs.folder import DONE, RunFolder, TaskFolder, TaskStatus
from .training_report import PHASE, TrainingReport, from_checkpoint, from_manifest


def analyse(address: str) -> TrainingReport:
    """The report of a training.

    :param address: the folder or store address of an artifact, of a checkpoint, or of what holds checkpoints; the folder
        of a run, or of one of its tasks.
    :raises InputError: there is nothing of that kind.
    """
    if "://" in address:
        return _of_store(open_store(address))
    path = Path(address)
    if path.is_file():
        raise InputError(
            "a checkpoint is a folder, and this is a file", where=address,
            why="pickled checkpoints (.pt, .bin) are never opened: they may run code",
            fix="give a checkpoint's folder, an artifact or a run's folder",
        )  # fmt: skip
    if not path.is_dir():
        raise InputError(
            "there is no such folder",
            where=address,
            fix="give a checkpoint's folder, an artifact or a run's folder",
        )
    path = path.resolve()
    if (path / "run.json").is_file():
        return of_run(RunFolder(path))
    if task := _task_above(path):
        folder, status = task
        if path == folder.task(status.task).path:
            return _of_task(folder, status)
        return _of_store(open_store(str(path)), folder.task(status.task), status.phase)
    return _of_store(open_store(str(path)))


def of_run(folder: RunFolder) -> TrainingReport:
    """The report of a run's last task of phase training, from what it has published or its newest checkpoint.

    :raises InputError: none has begun, or none has written a checkpoint yet.
    """
    statuses = [status for status in folder.tasks() if status.phase == PHASE and status.started]
    if not statuses:
        raise InputError(
            f"phase {PHASE} has not begun in this run",
            where=str(folder.path),
            fix="forge status says how far it is",
        )
    return _of_task(folder, statuses[-1])


def _task_above(path: Path) -> tuple[RunFolder, TaskStatus] | None:
    """The task in whose folder a path lies, or which is that folder; None for a path elsewhere."""
    for above in (path, *path.parents):
        if (above / "status.json").is_file() and "tasks" in above.parts:
            root = next((up for up in above.parents if (up / "run.json").is_file()), None)
            if root is not None and (
                status := TaskFolder(root, str(above.relative_to(root / "tasks"))).read()
            ):
                return RunFolder(root), status
    return None


def _of_task(folder: RunFolder, status: TaskStatus) -> TrainingReport:
    task_folder = folder.task(status.task)
    if status.status in DONE:
        for output in status.outputs.values():
            if (folder.path / output / MANIFEST).is_file():
                report = _of_store(open_store(str(folder.path / output)))
                report.run = folder.name
                return report
    if not task_folder.checkpoints.is_dir():
        raise InputError(
            f"{status.task} has written no checkpoint yet", where=str(task_folder.path),
            fix=f"wait a little; until then: forge metrics {folder.name} --task {status.task}",
        )  # fmt: skip
    return _of_store(open_store(str(task_folder.checkpoints)), task_folder, status.phase)


def _of_store(store: Store, task: TaskFolder | None = None, phase: str = PHASE) -> TrainingReport:
    """The report of the artifact, or of the newest checkpoint, below a store's place.

    :param task: whose checkpoints these are, where that is known.
    """
    if store.exists(MANIFEST):
        manifest = decode(store.get(MANIFEST), store.address(MANIFEST))
        return from_manifest(manifest, store.uri)
    from components.shared.runtime.checkpoint.checkpoints import STATE, header_of

    for key in _checkpoints(store, STATE):
        try:
            header = header_of(store.get(key))
        except MissingKey:  # a newer one has taken its place since
            continue
        except ValueError as error:
            raise InputError(
                "the checkpoint is damaged", where=store.address(key), why=str(error),
                fix="delete its folder: a phase that goes on takes the one before it, too",
            ) from error  # fmt: skip
        checkpoint = key.rpartition("/")[0]
        report = from_checkpoint(
            header["state"], store.address(checkpoint), phase=phase, settings=_settings(task, phase)
        )
        report.run = task.run.name if task else ""
        return report
    raise InputError(
        "there is neither an artifact nor a checkpoint here", where=store.uri,
        fix="give a folder with forge.json, a checkpoint's folder or the one above it, or a run's folder",
    )  # fmt: skip


def _checkpoints(store: Store, state: str) -> list[str]:
    """The keys of the checkpoints' states, the newest first; where several pieces of work have some, of the latest one.

    :raises InputError: there are several, in a bucket, where nothing says which is the latest.
    """
    keys = [entry.key for entry in store.list() if entry.key == state or entry.key.endswith(f"/{state}")]
    works: dict[str, list[str]] = {}
    for key in keys:
        works.setdefault(key.rpartition("/")[0].rpartition("/")[0], []).append(key)
    if len(works) > 1 and "://" in store.uri:
        raise InputError(
            f"there are checkpoints of {len(works)} pieces of work", where=store.uri,
            fix=f"give one of {', '.join(store.address(work) for work in sorted(works)[:4])}",
        )  # fmt: skip
    if not works:
        return []
    latest = max(works.values(), key=lambda group: max(_written(store, key) for key in group))
    return sorted(latest, reverse=True)


def _written(store: Store, key: str) -> float:
    """When a file of a folder was written, Unix seconds; 0 in a bucket, and for one that has gone since."""
    try:
        return Path(store.uri, key).stat().st_mtime
    except OSError:
        return 0.0


def _settings(task: TaskFolder | None, phase: str) -> Mapping[str, Any] | None:
    """The settings that a task of a run was started with; None where nothing says them, or they fit no more."""
    if task is None or not task.executor_input.is_file():
        return None
    from components.shared.runtime.config.settings import model_of, parse

    try:
        parameters = json.loads(task.executor_input.read_text())["inputs"].get("parameterValues", {})
        config = parse(phase, model_of(phase), parameters["settings"], int(parameters.get("seed", 0)))
    except (
        ForgeError,
        KeyError,
        ValueError,
        TypeError,
        AttributeError,
        RecursionError,
    ):  # damaged, or of another version
        return None
    return dict(config.tree[phase])
