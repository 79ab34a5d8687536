"""What glibc does with freed memory; nothing here has an effect with another libc."""

from __future__ import annotations

import ctypes

MMAP_THRESHOLD, TRIM_THRESHOLD = -3, -1  # of malloc.h


def give_back_from(size: int) -> None:
    """From now on blocks of `size` bytes and more go back to the system when they are freed."""
    _set(MMAP_THRESHOLD, size)


def keep(size: int) -> None:
    """From now on the process keeps up to `size` bytes of smaller blocks that were freed."""
    _set(TRIM_THRESHOLD, size)


def _set(parameter: int, value: int) -> None:
    if hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(parameter, value)
