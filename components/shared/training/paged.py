"""A model that is only read, its weights in a file: of them no more is in memory than the module that computes.

A teacher lies beside a student whose gradients and optimiser states fill the memory, and is read from its first layer to
its last once a pass. From a mapped file the kernel brings in what a module reads, and takes it back when it is told that
this is not needed now (madvise(2)): four bytes a weight become those of one layer. The weights are the same bits, laid out
as before, and so is what is computed from them.
"""

from __future__ import annotations

import mmap
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from components.shared.runtime.malloc import LARGE

SMALL = 1 << 16
"""Bytes up to which a tensor stays in memory: norms and biases."""


@contextmanager
def paged(model: nn.Module, folder: Path, *, least: int = LARGE) -> Iterator[None]:
    """Inside, the weights of a model on a CPU lie in a file without a name in `folder`; afterwards in memory again.

    :param model: it is read alone, without gradients, while the block lasts.
    :param least: nothing is done for a model of fewer bytes.
    """
    weights = [each for each in model.parameters() if each.nbytes > SMALL and each.is_contiguous()]
    on_cpu = all(each.device.type == "cpu" for each in weights)
    if not on_cpu or sum(each.nbytes for each in weights) < least:
        yield
        return
    starts, size = {}, 0
    for weight in weights:
        starts[weight], size = size, size + _pages(weight)
    with tempfile.TemporaryFile(prefix="weights-", dir=folder) as file:  # mapped, it lives on without a name
        file.truncate(size)
        room = mmap.mmap(file.fileno(), size)

    def leave(module: nn.Module, *_: object) -> None:
        """Hand the module's pages back."""
        for weight in module.parameters(recurse=False):
            if weight in starts:
                room.madvise(mmap.MADV_DONTNEED, starts[weight], _pages(weight))

    for weight, start in starts.items():
        weight.data = _at(room, start, weight)
        room.madvise(mmap.MADV_DONTNEED, start, _pages(weight))
    for weight in model.parameters():
        if weight not in starts:  # a view into the file that the model was loaded from may keep its pages
            weight.data = weight.data.clone()
    hooks = [module.register_forward_hook(leave) for module in model.modules()]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for weight in weights:
            weight.data = weight.data.clone()


def _pages(weight: Tensor) -> int:
    """Bytes of the whole pages that a tensor takes."""
    return -(-weight.nbytes // mmap.PAGESIZE) * mmap.PAGESIZE


def _at(room: mmap.mmap, start: int, weight: Tensor) -> Tensor:
    """A tensor of the same numbers in the mapped file."""
    there = torch.frombuffer(room, dtype=weight.dtype, count=weight.numel(), offset=start)
    return there.view(weight.shape).copy_(weight.data)
