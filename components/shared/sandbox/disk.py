"""What a program has written, while it writes, and the removal of it, whatever it is."""

from __future__ import annotations

import os
import stat
from typing import NamedTuple


class Usage(NamedTuple):
    """What lies in a program's folder."""

    entries: int
    bytes: int


def folder_usage(folder: str, most: Usage) -> Usage:
    """Files, folders and bytes below a folder; counting ends where there is more than `most` of either."""
    entries = size = 0
    waiting = [folder]
    while waiting and entries <= most.entries and size <= most.bytes:
        try:
            with os.scandir(waiting.pop()) as found:
                for entry in found:
                    status = entry.stat(follow_symlinks=False)
                    entries, size = entries + 1, size + status.st_blocks * 512
                    if stat.S_ISDIR(status.st_mode):
                        waiting.append(entry.path)
                    if entries > most.entries:
                        break
        except FileNotFoundError:
            continue  # it was removed meanwhile
        except (
            OSError
        ):  # so deep that its path has no name, or closed by the program: nothing that is counted
            return Usage(most.entries + 1, size)
    return Usage(entries, size)


def mounted_usage(process: int, place: str) -> Usage:
    """The same of a file system of its own, as a process sees it; nothing, where the process has ended."""
    try:
        status = os.statvfs(f"/proc/{process}/root{place}")
    except (FileNotFoundError, ProcessLookupError):
        return Usage(0, 0)
    return Usage(status.f_files - status.f_ffree, (status.f_blocks - status.f_bfree) * status.f_frsize)


def remove(folder: str) -> None:
    """Remove a folder, however deep it is: what lies in a folder of it comes up into it first.

    Nothing is followed that leads out of it.

    :raises OSError: it cannot be removed.
    """
    number = 0
    place = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        os.fchmod(place, 0o700)
        while names := os.listdir(place):
            for name in names:
                if not stat.S_ISDIR(os.stat(name, dir_fd=place, follow_symlinks=False).st_mode):
                    os.unlink(name, dir_fd=place)
                    continue
                inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=place)
                try:
                    for child in os.listdir(inner):
                        number += 1
                        os.rename(child, f".removed-{number}", src_dir_fd=inner, dst_dir_fd=place)
                finally:
                    os.close(inner)
                os.rmdir(name, dir_fd=place)
    finally:
        os.close(place)
    os.rmdir(folder)
