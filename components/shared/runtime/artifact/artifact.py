"""An artifact: a model directory in the Hugging Face layout, sealed by a manifest that is written last.

    staging/  config.json  model.safetensors  tokenizer.json  README.md  …
        seal     hashes every file and writes forge.json
        publish  moves the whole to its target, all or nothing (publication.py)
        read     verifies every byte before anything is used

Weights are safetensors only; pickles are refused by name, and nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, cast, get_args

from ..errors import ArtifactError, StoreError
from ..store.folder import FolderStore, fsync
from ..store.interface import PARTIAL, is_safe_name
from . import publish_lock
from .manifest import FORMAT, MANIFEST, FileEntry, Kind, Manifest, decode, digest_of, encode
from .weights import describe, headers

__all__ = [
    "MANIFEST",
    "Artifact",
    "FileEntry",
    "Manifest",
    "digest_of",
    "hashed",
    "read",
    "refuse_pickles",
    "seal",
]

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
        text = FolderStore(folder).get(MANIFEST)
    except StoreError as error:
        raise ArtifactError(
            f"there is no {MANIFEST}",
            where=str(folder),
            why="not an artifact, or its writer has not finished" if folder.is_dir() else "no such folder",
            fix="give the folder of a published artifact or of a Hugging Face model",
        ) from error
    manifest = decode(text, str(folder / MANIFEST))
    names, unfinished = _names(folder)
    if unfinished and not publish_lock.is_lock_of(_bytes(folder / publish_lock.LOCK), manifest.digest):
        names += unfinished  # nobody is publishing this here: they are files like any other
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
    for name, actual in hashed(folder, names).items():
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
    names, unfinished = _names(staging)
    if unfinished:
        raise ArtifactError(
            "a draft of a file is left", where=str(staging / unfinished[0]), fix="remove it, or rename it"
        )
    if not names:
        raise ArtifactError("there is nothing to seal", where=str(staging), fix="write the files first")
    tensors, parameters = describe(staging)
    for name in names:
        fsync(staging / name)
    files = hashed(staging, names)
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


def _names(folder: Path) -> tuple[list[str], list[str]]:
    """The files of an artifact but its manifest, and what a publication under way has besides: its lock, its drafts.

    Refuses links, pickles and unsafe names.
    """
    names: list[str] = []
    unfinished: list[str] = []
    for root, folders, files in os.walk(folder, onerror=unreadable):
        for entry in sorted(folders) + sorted(files):
            path = Path(root, entry)
            name = PurePosixPath(path.relative_to(folder)).as_posix()
            if path.is_symlink():
                raise ArtifactError(
                    "an artifact holds no links", where=str(path), fix="put the file itself there"
                )
            if not is_safe_name(name):
                raise ArtifactError(f"the file name {name!r} is not safe", where=str(folder), fix="rename it")
            if entry in folders or name == MANIFEST:
                continue
            if not path.is_file():
                raise ArtifactError("an artifact holds regular files only", where=str(path), fix="remove it")
            (unfinished if entry.startswith(PARTIAL) or name == publish_lock.LOCK else names).append(name)
    refuse_pickles(folder, names)
    return sorted(names), sorted(unfinished)


def _bytes(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b""


def unreadable(error: OSError) -> None:
    """For os.walk, which would leave out what it cannot read.

    :raises ArtifactError: always.
    """
    raise ArtifactError(
        "a folder cannot be read",
        where=str(error.filename),
        why=error.strerror or str(error),
        fix="check its rights",
    ) from error


def refuse_pickles(folder: Path, names: Sequence[str]) -> None:
    """Refuse names of files that are unpickled where they are read.

    :raises ArtifactError: naming the first.
    """
    for name in names:
        if name.lower().endswith(PICKLES):
            raise ArtifactError(
                "pickled files are refused",
                where=str(folder / name),
                why="unpickling runs code",
                fix="save weights as safetensors and remove this file",
            )


def hashed(folder: Path, names: Sequence[str]) -> dict[str, FileEntry]:
    """Size and SHA-256 of these files."""

    def entry(name: str) -> FileEntry:
        with (folder / name).open("rb") as file:
            return FileEntry(sha256=hashlib.file_digest(file, "sha256").hexdigest(), bytes=file.tell())

    with ThreadPoolExecutor() as pool:
        return dict(zip(names, pool.map(entry, names), strict=True))
