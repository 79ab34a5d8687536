"""Where a phase works before it publishes: gone after success, found again after a kill."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from ..errors import LostRace
from ..request.inputs import Request
from ..tracking import curves


def checkpoint_root(request: Request) -> str:
    """Where checkpoints go: as asked, or beside the output."""
    return request.checkpoint_root or f"{request.target.rstrip('/')}.checkpoints"


def path_of(request: Request, identity: str) -> Path:
    """The scratch directory of this work: with its checkpoints, or on this machine when these are in a bucket."""
    root = checkpoint_root(request)
    base = Path(tempfile.gettempdir()) / "agent-forge" if "://" in root else Path(root)
    return base / f"{identity[:16]}.work"


@contextlib.contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Inside the block the scratch directory is this process's own; it is removed after success.

    :raises LostRace: another process has it.
    """
    path.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path / "lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise LostRace(
            "another process is doing this very work", where=str(path), fix="wait for it, or stop it"
        ) from None
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
        lock.release()


@contextlib.contextmanager
def staging(request: Request, identity: str, scratch: Path) -> Iterator[Path]:
    """An empty directory on the file system of the target; in the scratch directory where the target is a bucket."""
    folder = scratch / "output"
    if "://" not in request.target:
        target = Path(request.target).absolute()
        folder = target.parent / f".{target.name}.{identity[:16]}"
    shutil.rmtree(folder, ignore_errors=True)  # what a killed process left
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
