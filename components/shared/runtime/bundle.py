"""Several artifacts bound into one, for places where a pipeline can carry one artifact but not a list of them.

KFP gives a list of artifacts whole to a container beside the loop that made it, and one element of it to
anything inside another loop. A bundle is an artifact whose folders `0`, `1`, … are the members, byte for byte.
`inputs.read` takes it apart again, so that a phase sees the list that was bound.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from . import artifact
from .artifact import MANIFEST, Artifact
from .errors import InputError

MEMBERS = "members"
"""The key of the manifest's `extra` that makes an artifact a bundle; its value is the number of members."""


def bind(members: Sequence[Artifact], target: Path, *, phase: str = "evomerge") -> Artifact:
    """Publish a bundle of `members`, in their order, at the folder `target`.

    :raises InputError: there are no members.
    """
    if not members:
        raise InputError("there is nothing to bind", where=str(target), fix="give at least one model")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as folder:
        staging = Path(folder) / "bundle"
        for number, member in enumerate(members):
            for name in [*member.manifest.files, *([MANIFEST] if (member.path / MANIFEST).exists() else [])]:
                copy = staging / str(number) / name
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(member.path / name, copy)
        artifact.seal(
            staging,
            kind="population",
            phase=phase,
            parents=[member.digest for member in members],
            extra={MEMBERS: len(members)},
        )
        artifact.publish(staging, str(target))
    return artifact.read(target)


def members(bundle: Artifact) -> list[Artifact]:
    """The members of a bundle, verified, in their order; an artifact that is no bundle is its own only member."""
    count = bundle.manifest.extra.get(MEMBERS)
    if count is None:
        return [bundle]
    folders = [bundle.path / str(number) for number in range(int(count))]
    return [member(folder) for folder in folders]


def member(folder: Path) -> Artifact:
    """What may stand in a bundle: an artifact, or a plain Hugging Face model."""
    return artifact.read(folder) if (folder / MANIFEST).exists() else artifact.adopt(folder)
