"""A plain Hugging Face model directory, as the hub's tools leave it, taken as an artifact."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import ArtifactError
from .artifact import Artifact, hashed, refuse_pickles, unreadable
from .base_models import KEY, licence_of_card
from .manifest import FORMAT, MANIFEST, Manifest, digest_of
from .model_folder import require_model_folder
from .weights import INDEX, SINGLE, describe


def adopt(path: str | os.PathLike[str]) -> Artifact:
    """A plain Hugging Face model directory as an artifact, without writing to it.

    Hidden files are not part of it. The Hugging Face cache is made of links into its `blobs`: these and links inside the
    folder are followed, and no others.

    :raises ArtifactError: no config.json, no safetensors, pickled weights, a link that leads nowhere or elsewhere, a
        file that is none, or a manifest (then `read` it).
    """
    folder = Path(path)
    if (folder / MANIFEST).exists():
        raise ArtifactError("the folder is an artifact already", where=str(folder), fix="read it as one")
    require_model_folder(folder)
    names = _plain_names(folder)
    refuse_pickles(folder, names)
    if not (folder / SINGLE).is_file() and not (folder / INDEX).is_file():
        raise ArtifactError(
            f"there is neither {SINGLE} nor {INDEX}", where=str(folder), fix="save it as safetensors"
        )
    tensors, parameters = describe(folder)
    files = hashed(folder, names)
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
        extra={
            KEY: [
                {
                    "source": "a Hugging Face folder",
                    "licence": licence_of_card(folder),
                    "digest": digest_of(files),
                }
            ]
        },
    )
    return Artifact(folder, manifest)


def _plain_names(folder: Path) -> list[str]:
    """The files of a plain model directory, sorted, without the hidden ones."""
    inside = folder.resolve()
    allowed = (inside, inside.parent.parent / "blobs") if inside.parent.name == "snapshots" else (inside,)
    names = []
    for root, folders, files in os.walk(folder, onerror=unreadable):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for entry in [*folders, *sorted(file for file in files if not file.startswith("."))]:
            path = Path(root, entry)
            try:
                real = path.resolve(strict=True)
            except (OSError, RuntimeError) as error:  # RuntimeError: a loop, as Python 3.11 says it
                raise ArtifactError(
                    "a link leads nowhere", where=str(path), why=str(error), fix="fetch the model again"
                ) from error
            if path.is_symlink() and (real.is_dir() or not any(real.is_relative_to(top) for top in allowed)):
                raise ArtifactError(
                    "a link leads out of the model's folder",
                    where=str(path),
                    why=f"to {real}",
                    fix="put the file itself there",
                )
            if entry in folders:
                continue
            if not real.is_file():
                raise ArtifactError("a model holds regular files only", where=str(path), fix="remove it")
            names.append(path.relative_to(folder).as_posix())
    return sorted(names)
