"""An artifact: a model directory in the Hugging Face layout, sealed by a manifest that is written last.

    staging/  config.json  model.safetensors  tokenizer.json  README.md  …
        seal     hashes every file and writes forge.json
        publish  moves the whole to its target, all or nothing
        read     verifies every byte before anything is used

Weights are safetensors only; pickles are refused by name, and nothing is ever unpickled.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import uuid
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, cast, get_args

from ..errors import ArtifactError
from ..store.folder import FolderStore, fsync
from ..store.interface import PARTIAL, is_safe_name
from ..store.uri import open_store
from . import publish_lock
from .manifest import FORMAT, MANIFEST, FileEntry, Kind, Manifest, decode, digest_of, encode
from .model_folder import require_model_folder
from .weights import INDEX, SINGLE, describe, headers

__all__ = ["MANIFEST", "Artifact", "FileEntry", "Manifest", "adopt", "digest_of", "publish", "read", "seal"]

NOT_RENAMABLE = (errno.ENOTEMPTY, errno.EEXIST, errno.EBUSY, errno.EACCES, errno.EPERM, errno.EROFS)
"""Why rename(2) may fail although the target can be written: it holds something, or is a mount point."""

PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib")


@dataclass(frozen=True)
class Artifact:
    """A verified artifact on this machine."""

    path: Path
    manifest: Manifest

    @property
    def digest(self) -> str:
        """The content digest: SHA-256 over names and bytes of its files."""
        return self.manifest.digest

    @property
    def kind(self) -> Kind:
        """What it holds: a model, a trunk or a population."""
        return self.manifest.kind


def read(path: str | os.PathLike[str]) -> Artifact:
    """The artifact in the folder `path`, every byte verified.

    :raises ArtifactError: naming the file that is missing, extra, changed, truncated, a link or a pickle.
    """
    folder = Path(path)
    try:
        text = (folder / MANIFEST).read_bytes()
    except OSError as error:
        raise ArtifactError(
            f"there is no {MANIFEST}",
            where=str(folder),
            why="not an artifact, or its writer has not finished" if folder.is_dir() else "no such folder",
            fix="give the folder of a published artifact or of a Hugging Face model",
        ) from error
    manifest = decode(text, str(folder / MANIFEST))
    names = _names(folder)
    for name in sorted(set(manifest.files) - set(names)):
        raise ArtifactError(
            "a file of the artifact is missing", where=str(folder / name), fix="fetch the artifact again"
        )
    for name in sorted(set(names) - set(manifest.files)):
        raise ArtifactError("a file is not part of the artifact", where=str(folder / name), fix="remove it")
    for name, entry in manifest.files.items():
        size = (folder / name).stat().st_size
        if size != entry["bytes"]:
            raise ArtifactError(
                f"a file is {'truncated' if size < entry['bytes'] else 'too long'}",
                where=str(folder / name),
                why=f"{size} bytes, and the manifest says {entry['bytes']}",
                fix="fetch the artifact again",
            )
    for name, actual in _hash(folder, names).items():
        if actual["sha256"] != manifest.files[name]["sha256"]:
            raise ArtifactError(
                "a file was changed after the artifact was sealed",
                where=str(folder / name),
                why=f"its SHA-256 is {actual['sha256']}, not {manifest.files[name]['sha256']}",
                fix="fetch the artifact again",
            )
    headers(folder)
    return Artifact(folder, manifest)


def seal(
    staging: Path,
    *,
    kind: str,
    phase: str,
    parents: Sequence[str] = (),
    config: Mapping[str, Any] | None = None,
    config_digest: str = "",
    seed: int = 0,
    code_version: str = "",
    metrics: Mapping[str, float] | None = None,
    scores: Mapping[str, Mapping[str, Any]] | None = None,
    gates: Sequence[Mapping[str, Any]] = (),
    timing: Mapping[str, Any] | None = None,
    extra: Mapping[str, Any] | None = None,
) -> Manifest:
    """Hash the files in `staging` and write its manifest, last and atomically.

    :raises ArtifactError: no files, a pickle, a link, an unsafe name, inconsistent shards, or not JSON.
    """
    if kind not in get_args(Kind):
        raise ArtifactError(
            f"unknown kind {kind!r}", where=str(staging), fix=f"use one of {', '.join(get_args(Kind))}"
        )
    names = _names(staging)
    if not names:
        raise ArtifactError("there is nothing to seal", where=str(staging), fix="write the files first")
    tensors, parameters = describe(staging)
    for name in names:
        fsync(staging / name)
    files = _hash(staging, names)
    manifest = Manifest(
        format=FORMAT,
        kind=cast(Kind, kind),
        phase=phase,
        digest=digest_of(files),
        parents=list(parents),
        config=dict(config or {}),
        config_digest=config_digest,
        seed=seed,
        code_version=code_version,
        metrics={name: float(value) for name, value in (metrics or {}).items()},
        scores={suite: dict(score) for suite, score in (scores or {}).items()},
        gates=[dict(gate) for gate in gates],
        bytes=sum(entry["bytes"] for entry in files.values()),
        parameters=parameters,
        files=files,
        tensors=tensors,
        timing=dict(timing or {}),
        extra=dict(extra or {}),
    )
    text = encode(manifest)
    FolderStore(staging).put(MANIFEST, text)
    return decode(text, str(staging / MANIFEST))


def adopt(path: str | os.PathLike[str]) -> Artifact:
    """A plain Hugging Face model directory as an artifact, without writing to it.

    Links are followed here (the Hugging Face cache is made of them) and hidden files are not part of it.

    :raises ArtifactError: no config.json, no safetensors, pickled weights, or a manifest (then `read` it).
    """
    folder = Path(path)
    if (folder / MANIFEST).exists():
        raise ArtifactError("the folder is an artifact already", where=str(folder), fix="read it as one")
    require_model_folder(folder)
    names = sorted(
        name
        for root, _, files in os.walk(folder)
        for name in (Path(root, file).relative_to(folder).as_posix() for file in files)
        if not any(part.startswith(".") for part in name.split("/"))
    )
    _refuse_pickles(folder, names)
    if not (folder / SINGLE).is_file() and not (folder / INDEX).is_file():
        raise ArtifactError(
            f"there is neither {SINGLE} nor {INDEX}", where=str(folder), fix="save it as safetensors"
        )
    tensors, parameters = describe(folder)
    files = _hash(folder, names)
    manifest = Manifest(
        format=FORMAT,
        kind="model",
        phase="adopted",
        digest=digest_of(files),
        parents=[],
        config={},
        config_digest="",
        seed=0,
        code_version="",
        metrics={},
        scores={},
        gates=[],
        bytes=sum(entry["bytes"] for entry in files.values()),
        parameters=parameters,
        files=files,
        tensors=tensors,
        timing={},
        extra={},
    )
    return Artifact(folder, manifest)


def publish(staging: Path, target: str) -> None:
    """Move the sealed artifact in `staging` to `target` (a folder, or s3://…), all or nothing.

    An empty folder as target is as good as none. Publishing the same content again is a success. Do not use
    `staging` afterwards: a folder target takes it over.

    :raises LostRace: another content is published there.
    """
    manifest = read(staging).manifest
    if "://" in target:
        store = open_store(target)
        store.probe()
        publish_lock.publish(staging, manifest, store)
    else:
        _publish_to_folder(staging, manifest, Path(target))


def _publish_to_folder(staging: Path, manifest: Manifest, target: Path) -> None:
    if not (target / MANIFEST).exists():
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            _rename(staging, target)
            fsync(target.parent)
            return
        except OSError as error:
            if error.errno not in NOT_RENAMABLE:
                raise ArtifactError(
                    "the artifact cannot be published",
                    where=str(target),
                    why=error.strerror or str(error),
                    fix="give a folder that is empty or does not exist, on a disk with free space",
                ) from error
    # What cannot be renamed onto (a mount point, a parent that is not ours) is written into, manifest last.
    publish_lock.publish(staging, manifest, FolderStore(target))
    read(target)


def _rename(staging: Path, target: Path) -> None:
    """rename(2), by way of a copy beside the target when `staging` lies on another file system."""
    try:
        staging.rename(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        sibling = target.parent / f"{PARTIAL}{uuid.uuid4().hex}"
        try:
            shutil.copytree(staging, sibling)
            for name in [*_names(sibling), MANIFEST]:
                fsync(sibling / name)
            sibling.rename(target)
        finally:
            shutil.rmtree(sibling, ignore_errors=True)


def _names(folder: Path) -> list[str]:
    """The files of an artifact but its manifest, sorted. Refuses links, pickles and unsafe names."""
    names = []
    for root, folders, files in os.walk(folder):
        for entry in sorted(folders) + sorted(files):
            path = Path(root, entry)
            name = PurePosixPath(path.relative_to(folder)).as_posix()
            if path.is_symlink():
                raise ArtifactError(
                    "an artifact holds no links", where=str(path), fix="put the file itself there"
                )
            if not is_safe_name(name):
                raise ArtifactError(f"the file name {name!r} is not safe", where=str(folder), fix="rename it")
            if entry in folders or entry.startswith(PARTIAL) or name in (MANIFEST, publish_lock.LOCK):
                continue
            if not path.is_file():
                raise ArtifactError("an artifact holds regular files only", where=str(path), fix="remove it")
            names.append(name)
    _refuse_pickles(folder, names)
    return sorted(names)


def _refuse_pickles(folder: Path, names: Sequence[str]) -> None:
    for name in names:
        if name.lower().endswith(PICKLES):
            raise ArtifactError(
                "pickled files are refused",
                where=str(folder / name),
                why="unpickling runs code",
                fix="save weights as safetensors and remove this file",
            )


def _hash(folder: Path, names: Sequence[str]) -> dict[str, FileEntry]:
    def entry(name: str) -> FileEntry:
        with (folder / name).open("rb") as file:
            return FileEntry(sha256=hashlib.file_digest(file, "sha256").hexdigest(), bytes=file.tell())

    with ThreadPoolExecutor() as pool:
        return dict(zip(names, pool.map(entry, names), strict=True))
