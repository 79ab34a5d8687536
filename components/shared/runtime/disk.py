"""What the disk's refusals mean for the person at the terminal, whichever library has met them."""

from __future__ import annotations

import errno
import os
import re

from .errors import StoreError

ROOM = "make room, or give a place on another disk"
WRITABLE = "give a place that can be written: --output, --checkpoints, TMPDIR"
PATH = "check the path"
OTHER = "give another place, or check its rights and the free space"
FIX = {
    errno.ENOSPC: ROOM,
    errno.EDQUOT: ROOM,
    errno.EFBIG: "raise the limit of a file's size (ulimit -f), or give a place on another disk",
    errno.EROFS: WRITABLE,
    errno.EACCES: WRITABLE,
    errno.EPERM: WRITABLE,
    errno.ENOTDIR: "a part of this path is a file: give another",
    errno.ENAMETOOLONG: "give a shorter name",
    errno.ELOOP: PATH,
    errno.ENXIO: PATH,
    errno.EIO: "look at the disk (dmesg)",
    errno.ESTALE: "look at the file server, and start it again",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENFILE: "close what holds so many files open",
}
NUMBER = re.compile(r"\(os error (\d+)\)")
"""How Rust says it: safetensors and tokenizers do."""


def refusal(error: BaseException, where: str = "") -> StoreError | None:
    """Our error for one that the operating system's refusal is behind; None for any other, and for a reader that has gone.

    :param where: what was being made, for an error that names no file.
    """
    number, why = None, ""
    if isinstance(error, OSError):
        number, why = error.errno, error.strerror or str(error) or type(error).__name__
        where = " → ".join(f"{name!s:.300}" for name in (error.filename, error.filename2) if name) or where
    elif match := NUMBER.search(str(error)):
        number = int(match[1])
        why = os.strerror(number)
    if not why or number == errno.EPIPE:  # a pipe's end is the reader's to choose
        return None
    return StoreError("the system refuses", where=where, why=why, fix=FIX.get(number or 0, OTHER))
