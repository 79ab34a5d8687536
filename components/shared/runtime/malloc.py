"""What glibc does with freed memory; nothing here has an effect with another libc. Names and numbers are mallopt(3)'s."""

from __future__ import annotations

import ctypes

LARGE = 1 << 27
"""Bytes of a model from which on memory is worth more than the time that it takes to fault it in again. Once a small object
that stays has moved into a freed block that was kept, the next large one needs another: a hole for every layer."""

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of malloc.h


def suit_model(size: int) -> None:
    """Give freed blocks back to the system from a mebibyte on, if a model of `size` bytes is LARGE.

    They are its weights, what is made of them for a moment, and their gradients: in a heap that keeps its blocks each
    kind would leave holes for the next.
    """
    if size >= LARGE:
        set_mmap_threshold(1 << 20)


def set_mmap_threshold(bytes: int) -> None:
    """From now on blocks of so many bytes and more go back to the system when they are freed."""
    _set(M_MMAP_THRESHOLD, bytes)


def set_trim_threshold(bytes: int) -> None:
    """From now on the process keeps up to so many bytes of smaller blocks that were freed."""
    _set(M_TRIM_THRESHOLD, bytes)


def _set(parameter: int, value: int) -> None:
    if hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(parameter, value)
