"""Where freed memory goes."""

from __future__ import annotations

import ctypes


def give_back(size: int) -> None:
    """From now on blocks of `size` bytes and more go back to the system when they are freed, where libc is glibc.

    The project's runtime has freed blocks kept for their next use, which saves a small network's training a tenth of its
    time. But once a small object that stays has moved into a kept block, the next large one needs another: a hole for
    every layer of a large model.
    """
    if hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(-3, size)  # M_MMAP_THRESHOLD
