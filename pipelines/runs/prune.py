"""Old runs out of a runs folder, without taking from newer ones what they still stand on.

Kept are the newest runs, whatever runs now, and every run that a kept one reads from: its base model, or the artifact that
it was started with, lies in there. The results of an old run that a newer one has taken from the cache are links to the
same bytes, or copies: they stay. So the index of the cache is led to the newer one, and forgets what is nowhere any more.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from components.shared.runtime.atomic import write_atomically
from components.shared.runtime.errors import ConfigError, InputError, LostRace
from components.shared.runtime.store import sealed_json

from .folder import DONE, RESERVED, DamagedRun, RunFolder, RunStatus, readable

CACHE = "cache"
"""The folder beside the runs that holds the index: `<key>.json`, which names the run, the task and its outputs."""

REMOVED = ".removed"
"""How the name of a folder ends whose run is being removed."""

LEFT = re.compile(rf"\..+\.[0-9a-f]{{32}}{re.escape(REMOVED)}")
"""The whole name of such a folder."""


@dataclass(frozen=True)
class RunUse:
    """A run, and why it stays, or what its removal gives back.

    :param started: Unix seconds.
    :param bytes: of all its files.
    :param freed: those that are nowhere else: a file that a run which stays has too, as a link, frees nothing.
    :param reason: why it stays; "" where it goes.
    """

    folder: RunFolder
    started: float
    status: str
    bytes: int
    freed: int = 0
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "run": self.folder.name, "path": str(self.folder.path), "started": self.started, "status": self.status,
            "bytes": self.bytes, "freed": self.freed, "reason": self.reason,
        }  # fmt: skip


@dataclass(frozen=True)
class Pruning:
    """What is to go and what is to stay, the newest first.

    :param skipped: folders with a run.json that cannot be read, or that are links: nothing is done to them.
    """

    runs: Path
    removed: list[RunUse] = field(default_factory=list)
    kept: list[RunUse] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    @property
    def freed(self) -> int:
        """Bytes that the disk gets back."""
        return sum(use.freed for use in self.removed)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "runs": str(self.runs), "removed": [use.to_json() for use in self.removed],
            "kept": [use.to_json() for use in self.kept], "skipped": self.skipped, "freed": self.freed,
        }  # fmt: skip


def plan(runs: Path, *, keep: int) -> Pruning:
    """What `remove` would remove. Nothing is changed.

    :param runs: a runs folder.
    :param keep: how many of the newest runs stay, those that run now among them.
    :raises ConfigError: fewer than one is to stay.
    :raises InputError: the folder is none of runs.
    """
    if keep < 1:
        raise ConfigError(f"{keep} runs cannot be kept", where="--keep", fix="keep one or more")
    folders, skipped = _runs_in(runs)
    states = {folder.name: folder.read() for folder in folders}
    order = sorted(folders, key=lambda folder: (-(states[folder.name].started or 0.0), folder.name))
    reasons = {folder.name: "one of the newest" for folder in order[:keep]}
    return _planned(runs, order, states, reasons, skipped)


def plan_of_one(runs: Path, name: str) -> Pruning:
    """The same for one run, whatever its age: it goes, unless it is running or another run reads from it.

    :raises InputError: the folder is none of runs, or has no such run.
    """
    folders, skipped = _runs_in(runs)
    if name not in {folder.name for folder in folders}:
        raise InputError(f"there is no run {name!r}", where=str(runs), fix="forge status lists what is there")
    states = {folder.name: folder.read() for folder in folders}
    reasons = {folder.name: "it is another run" for folder in folders if folder.name != name}
    return _planned(runs, folders, states, reasons, skipped)


def _planned(
    runs: Path,
    order: Sequence[RunFolder],
    states: Mapping[str, RunStatus],
    reasons: dict[str, str],
    skipped: list[str],
) -> Pruning:
    """What goes and what stays.

    :param reasons: runs that stay, and why; those that run, and those that these read from, are added.
    """
    for folder in order:
        if folder.active():
            reasons[folder.name] = "it is running"
    _keep_what_is_read(order, states, reasons)
    sizes = {folder.name: _size(folder.path) for folder in order}
    leaving = [folder for folder in order if folder.name not in reasons]
    freed = _freed(leaving)
    uses = [
        RunUse(
            folder, states[folder.name].started or 0.0, states[folder.name].status, sizes[folder.name],
            freed.get(folder.name, 0), reasons.get(folder.name, ""),
        )
        for folder in order
    ]  # fmt: skip
    return Pruning(
        runs, [use for use in uses if not use.reason], [use for use in uses if use.reason], skipped
    )


def remove(pruning: Pruning) -> Pruning:
    """Remove what was planned; what was really removed, and what stays after all because somebody has begun to use it.

    The index of the cache goes first, so that no run that starts now is led to what is about to go.
    """
    for left in pruning.runs.glob(f".*{REMOVED}"):  # by a removal that was killed
        if LEFT.fullmatch(left.name) and not left.is_symlink():
            shutil.rmtree(left, ignore_errors=True)
    removed, kept = [], list(pruning.kept)
    for use in pruning.removed:
        folder = use.folder
        if not folder.exists():  # somebody else has removed it
            continue
        if reason := _read_since(pruning).get(folder.name):  # asked anew each time: removing takes a while
            kept.append(replace(use, reason=reason, freed=0))
            continue
        try:
            with folder.lock():
                _redirect(pruning.runs, folder.name, [stays.folder for stays in kept])
                hidden = folder.path.with_name(f".{folder.name}.{uuid.uuid4().hex}{REMOVED}")
                folder.path.rename(hidden)
                (hidden / "run.json").unlink(missing_ok=True)  # what is half removed is no run
                shutil.rmtree(hidden)
        except LostRace:
            kept.append(replace(use, reason="it has been started again", freed=0))
        except OSError as error:
            kept.append(replace(use, reason=f"it cannot be removed whole: {error}", freed=0))
        else:
            removed.append(use)
    return Pruning(pruning.runs, removed, kept, pruning.skipped)


def _read_since(pruning: Pruning) -> dict[str, str]:
    """The planned runs from which one that came after the plan reads, each with why it stays."""
    planned = {use.folder.name for use in (*pruning.removed, *pruning.kept)}
    states = {folder.path: status for folder, status in readable(pruning.runs.resolve())}
    late = [path for path in states if path.name not in planned]
    order = [RunFolder(path) for path in states]
    reasons = {path.name: "new" for path in late}
    _keep_what_is_read(order, {path.name: status for path, status in states.items()}, reasons)
    return reasons


def _has_run(folder: RunFolder) -> bool:
    return folder.pipeline.is_file() or (folder.path / "tasks").is_dir()


def _runs_in(runs: Path) -> tuple[list[RunFolder], list[str]]:
    """The runs in a folder, and what looks like one and is left alone.

    :raises InputError: it is no runs folder.
    """
    if (runs / "run.json").exists():
        raise InputError(
            "this is the folder of one run",
            where=str(runs),
            fix=f"give the folder of all runs: --runs {runs.parent}",
        )
    if not runs.is_dir():
        raise InputError("there is no such folder", where=str(runs), fix="give a runs folder: --runs FOLDER")
    folders, skipped = [], []
    for path in sorted(runs.glob("*/run.json")):
        folder = RunFolder(path.parent.resolve())
        if path.parent.is_symlink():
            skipped.append(f"{path.parent}: it is a link")
            continue
        try:
            status = folder.read()
            list(folder.tasks())
        except (OSError, ValueError, TypeError):
            skipped.append(f"{path.parent}: what it says of itself cannot be read")
            continue
        if folder.name in RESERVED or status.name != folder.name or not _has_run(folder):
            skipped.append(f"{path.parent}: it is not the folder of a run")
            continue
        folders.append(folder)
    if not folders:
        raise InputError(
            "there is no run in this folder", where=str(runs), why=skipped[0] if skipped else "no folder with a run.json",
            fix="give a runs folder: --runs FOLDER",
        )  # fmt: skip
    return folders, skipped


def _keep_what_is_read(
    order: Sequence[RunFolder], states: Mapping[str, RunStatus], reasons: dict[str, str]
) -> None:
    """Add to `reasons` each run in which lies something that a kept run was started with, and so on from there."""
    by_path = {str(folder.path): folder for folder in order}
    waiting = [folder for folder in order if folder.name in reasons]
    while waiting:
        reader = waiting.pop()
        for text in _paths(states[reader.name].parameters, reader):
            for path, folder in by_path.items():
                if folder.name not in reasons and (text == path or text.startswith(path + os.sep)):
                    reasons[folder.name] = f"{reader.name} reads from it"
                    waiting.append(folder)


def _paths(parameters: Any, folder: RunFolder) -> Iterator[str]:
    """Every path that a run was given, or that one of its tasks has taken in or published, as absolute ones."""
    for text in _texts(parameters):
        if "/" in text and "://" not in text:  # a relative one was so from where the run was started
            yield os.path.realpath(text)
            yield os.path.realpath(folder.path.parent.parent / text)
    with contextlib.suppress(DamagedRun):  # of a task that cannot be read nobody knows what it reads
        for status in folder.tasks():
            for text in _texts([status.inputs, status.outputs]):
                if os.path.isabs(text):
                    yield os.path.realpath(text)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts(inner)


def _files(folder: Path) -> Iterator[os.stat_result]:
    """What is known of every file of a folder; links are not followed."""
    for root, _, names in os.walk(folder):
        for name in names:
            try:
                yield os.lstat(os.path.join(root, name))
            except FileNotFoundError:  # a run that goes on removes its checkpoints
                continue


def _size(folder: Path) -> int:
    return sum(file.st_size for file in _files(folder))


def _freed(leaving: Sequence[RunFolder]) -> dict[str, int]:
    """Bytes that each run's removal frees: files all of whose names go with it, or went with one before it."""
    freed: dict[str, int] = {}
    names: dict[tuple[int, int], int] = {}
    for folder in leaving:
        freed[folder.name] = 0
        for file in _files(folder.path):
            key = (file.st_dev, file.st_ino)
            names[key] = names.get(key, 0) + 1
            if names[key] == file.st_nlink:
                freed[folder.name] += file.st_size
    return freed


def _redirect(runs: Path, name: str, kept: Sequence[RunFolder]) -> None:
    """Lead the cache's entries of a run to runs that have the same results, and remove those that nobody has."""
    entries = {}
    for path in (runs / CACHE).glob("*.json"):
        try:
            entry = sealed_json.decode(path.read_bytes(), indent=1)
        except (OSError, ValueError):
            continue
        if entry.get("run") == name:
            entries[path.stem] = entry
    for folder in kept:
        for status in folder.tasks():
            if status.status in DONE and status.cache_key in entries:
                moved = {**entries.pop(status.cache_key), "run": folder.name, "task": status.task}
                write_atomically(
                    runs / CACHE / f"{status.cache_key}.json", sealed_json.encode(moved, indent=1)
                )
    for key in entries:
        (runs / CACHE / f"{key}.json").unlink(missing_ok=True)
