"""Publishing a sealed artifact to a folder or a bucket: all or nothing, and of two contents one wins."""

from __future__ import annotations

import errno
import itertools
import shutil
import uuid
from pathlib import Path

from ..errors import ArtifactError
from ..store.folder import FolderStore, fsync
from ..store.interface import PARTIAL, walk
from ..store.uri import open_store
from . import publish_lock
from .artifact import read
from .manifest import MANIFEST, Manifest

NOT_RENAMABLE = (errno.ENOTEMPTY, errno.EEXIST, errno.EBUSY, errno.EACCES, errno.EPERM, errno.EROFS)
"""Why rename(2) may fail although the target can be written: it holds something, or is a mount point."""


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


def refuse_occupied(target: str) -> None:
    """Refuse, before any work, a target that nothing could be published to afterwards.

    :raises ArtifactError: a folder that holds something else, or no folder.
    """
    folder = Path(target)
    if "://" in target or not folder.exists() or (folder / publish_lock.LOCK).is_file():
        return
    if not folder.is_dir():
        raise ArtifactError(
            "the target is a file", where=target, fix="give a folder that is empty or does not exist"
        )
    if names := list(itertools.islice(walk(folder), 6)):  # and not all of a disk
        raise ArtifactError(
            "the target holds files that are not part of the artifact",
            where=target,
            why=", ".join(names[:5]) + (" and more" if len(names) > 5 else ""),
            fix="publish to an empty target, or delete them first",
        )


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
            for name in [*read(sibling).manifest.files, MANIFEST]:
                fsync(sibling / name)
            sibling.rename(target)
        finally:
            shutil.rmtree(sibling, ignore_errors=True)
