"""A bucket's files on this machine: fetched once for each content, checked whenever they are used, gone after a week.

Beside each copy lies `<copy>.sha256`, which says what was fetched. What does not match it is fetched again: the store
is the truth, and the copy is only near. The folder is its user's own: nobody else can put something in its place.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import stat
import sys
import tempfile
import time
import uuid
from pathlib import Path

from ..atomic import write_atomically
from ..errors import StoreError
from .folder import FolderStore
from .interface import PARTIAL, walk
from .uri import open_store

KEPT_SECONDS = 7 * 86400
"""A copy that nobody has used for so long is removed when the next one is asked for."""

RECORD = ".sha256"


def own_folder() -> Path:
    """What this user has on this machine for all phases: below the temporary folder, and closed to others.

    :raises StoreError: somebody else has made it, or others may write there.
    """
    folder = Path(tempfile.gettempdir()) / f"agent-forge-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError as error:
        raise StoreError(
            "the temporary folder cannot be used",
            where=str(folder),
            why=error.strerror or str(error),
            fix="set TMPDIR to a folder of yours",
        ) from error
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
        raise StoreError(
            "the temporary folder is not ours alone",
            where=str(folder),
            why="somebody else has made it, or others may write there",
            fix="remove it, or set TMPDIR to a folder of yours",
        )
    return folder


def inputs() -> Path:
    """Where the copies of inputs are."""
    return own_folder() / "inputs"


def download(uri: str, into: Path) -> Path:
    """A folder on this machine with the files of `uri`: a folder is itself, a bucket's come below `into`.

    :raises StoreError: there is no such folder, or the store cannot be read.
    :raises MissingKey: nothing is stored there.
    """
    if "://" not in uri:
        if not Path(uri).is_dir():
            raise StoreError("there is no such folder", where=uri, fix="check the path")
        return Path(uri)
    store = open_store(uri)
    listing = repr((uri, [(stored.key, stored.bytes, stored.tag) for stored in store.list()]))
    name = f"{uri.rstrip('/').rsplit('/', 1)[-1]}-{hashlib.sha256(listing.encode()).hexdigest()[:12]}"
    target = into / name
    if _is_as_fetched(target):
        os.utime(target)
        return target
    _forget_old(into)
    partial, replaced = (into / f"{PARTIAL}{uuid.uuid4().hex}" for _ in range(2))
    try:
        store.download("", partial)
        write_atomically(_record(target), json.dumps(_digests(partial)))
        with contextlib.suppress(OSError):
            partial.rename(target)  # there is none, or an empty one
        if not _is_as_fetched(target):  # else another process was faster
            print(f"the copy of {uri} in {target} was damaged and is replaced", file=sys.stderr, flush=True)
            target.rename(replaced)
            partial.rename(target)
    finally:
        for leftover in (partial, replaced):
            shutil.rmtree(leftover, ignore_errors=True)
    return target


def local_file(address: str) -> Path:
    """One file on this machine: a path is itself; of a bucket the folder comes that the file is in.

    :raises StoreError: the store cannot be read.
    :raises MissingKey: there is no such folder in it.
    """
    folder, _, name = address.rpartition("/")
    return download(folder, inputs()) / name if "://" in address else Path(address)


def _record(target: Path) -> Path:
    return target.with_name(target.name + RECORD)


def _is_as_fetched(target: Path) -> bool:
    """Whether a copy holds every byte that was fetched, and nothing else."""
    try:
        return bool(json.loads(_record(target).read_bytes()) == _digests(target))
    except (OSError, ValueError, RecursionError, StoreError):  # no copy, or half of one
        return False


def _digests(folder: Path) -> dict[str, str]:
    store = FolderStore(folder)
    return {name: store.sha256(name) for name in sorted(walk(folder))}


def _forget_old(into: Path) -> None:
    """Remove copies, and drafts of some, that nobody has touched for long."""
    with contextlib.suppress(FileNotFoundError):  # there are none yet, or another process removes them too
        for entry in into.iterdir():
            if time.time() - entry.lstat().st_mtime > KEPT_SECONDS:
                if entry.is_dir() and not entry.is_symlink():
                    shutil.rmtree(entry, ignore_errors=True)
                elif entry.name.endswith(RECORD) and not entry.with_name(entry.name[: -len(RECORD)]).exists():
                    entry.unlink()
