"""Where a phase works before it publishes: gone after success, found again after a kill."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from ..errors import LostRace, StoreError
from ..request.inputs import Request
from ..store.local_copy import own_folder
from ..tracking import curves


def checkpoint_root(request: Request) -> str:
    """Where checkpoints go: as asked, or beside the output."""
    return request.checkpoint_root or f"{request.target.rstrip('/')}.checkpoints"


def path_of(request: Request, identity: str) -> Path:
    """The scratch directory of this work: with its checkpoints, or on this machine when these are in a bucket."""
    root = checkpoint_root(request)
    base = own_folder() if "://" in root else Path(root)
    return base / f"{identity[:16]}.work"


@contextlib.contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Inside the block the scratch directory is this process's own; it is removed after success.

    :raises LostRace: another process has it.
    """
    with _alone(path / "lock"):
        curves.make_way(path / curves.FILE)
        succeeded = False
        try:
            yield
            succeeded = True
        finally:
            remaining = {file.name for file in path.iterdir()} - {"lock"}
            if not remaining or (
                succeeded and curves.FILE not in remaining
            ):  # metrics that MLflow lacks are kept
                shutil.rmtree(path, ignore_errors=True)
                with contextlib.suppress(OSError):  # other work may be there
                    path.parent.rmdir()


@contextlib.contextmanager
def staging(request: Request, identity: str, scratch: Path) -> Iterator[Path]:
    """An empty directory on the file system of the target; in the scratch directory where the target is a bucket.

    It is this process's own, too: another one may work for the same target with its checkpoints elsewhere.

    :raises LostRace: another process has it.
    """
    with contextlib.ExitStack() as stack:
        folder = scratch / "output"
        if lock := _lock_of(request, identity):
            folder = lock.with_suffix("")
            stack.enter_context(_alone(lock))
            stack.callback(lock.unlink, missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)  # what a killed process left
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        folder.mkdir(parents=True)
        yield folder


def discard(request: Request, identity: str, scratch: Path) -> None:
    """Remove what a process that was killed right behind its publication has left beside the target."""
    lock = _lock_of(request, identity)
    if lock and lock.exists():
        # To have held the staging directory is to have removed it; whoever is at it removes its own.
        with contextlib.suppress(LostRace), staging(request, identity, scratch):
            pass


def _lock_of(request: Request, identity: str) -> Path | None:
    """The lock beside a target that is a folder; without its suffix, the staging directory."""
    if "://" in request.target:
        return None
    target = Path(request.target).absolute()
    return target.parent / f".{target.name}.{identity[:16]}.lock"


@contextlib.contextmanager
def _alone(file: Path) -> Iterator[None]:
    """Hold a lock on this file, made with its folder; the block may remove it before it ends.

    :raises LostRace: another process holds it.
    :raises StoreError: it cannot be made.
    """
    lock = FileLock(file, timeout=0)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise LostRace(
            "another process is doing this very work", where=str(file), fix="wait for it, or stop it"
        ) from None
    except (OSError, ValueError) as error:
        raise StoreError(
            "there is no working here",
            where=str(file.parent),
            why=getattr(error, "strerror", "") or str(error),
            fix="give a folder that can be made and written, with --output and --checkpoints",
        ) from error
    try:
        yield
    finally:
        lock.release()
