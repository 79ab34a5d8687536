"""Gram matrices summed where they are kept: in the pages of `grams.safetensors` itself.

Those of a 7B model are 22 GB of float32 (for each of 32 layers three of 4096² and one of 11008²). Here the file grows
by a matrix when a layer with a new input is first met, its sums are added up in its mapped pages, which the system
writes out and takes back as it needs room, and the header, for which room is left at the front, is written at the end.
So there is never more of them in memory than the system has to spare, and they are written once.
"""

from __future__ import annotations

import json
import mmap
import struct
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .gram import FILE, capture_grams, linear_layers, save_grams, sum_grams

HELD = 1 << 30
"""Bytes of Gram matrices, in float64, up to which they are summed in memory."""
ENTRY = 256
"""Bytes of header that are left for a matrix, beside its name."""


class GramFile:
    """`grams.safetensors` while it is being summed.

    :param folder: where it comes to lie.
    :param paths: of all layers that it may be of.
    """

    def __init__(self, folder: Path, paths: Iterable[str]) -> None:
        self.path = folder / FILE
        room = 8 + sum(ENTRY + 3 * len(path) for path in paths)
        self.start = -(-room // mmap.PAGESIZE) * mmap.PAGESIZE
        self.sizes: list[int] = []
        self.end = self.start
        with self.path.open("wb") as stream:
            stream.truncate(self.start)

    def allocate(self, number: int, rows: Tensor) -> Tensor:
        """A matrix (in, in) float32 for the sum of this number, of zeros, in the file.

        :param rows: (N, in).
        """
        size = rows.shape[1]
        with self.path.open("r+b") as stream:
            stream.truncate(self.end + 4 * size * size)
        mapped = np.memmap(self.path, np.float32, "r+", self.end, (size, size))
        self.sizes.append(size)
        self.end += 4 * size * size
        return torch.from_numpy(mapped)

    def finish(self, numbers: Mapping[str, int]) -> None:
        """Write the header.

        :param numbers: layer → the number of its sum.
        """
        first: dict[int, str] = {}
        same: dict[str, str] = {}
        for path, number in sorted(numbers.items()):
            if path != first.setdefault(number, path):
                same[path] = first[number]
        header: dict[str, Any] = {"__metadata__": {"same": json.dumps(same, sort_keys=True)}}
        at = 0
        for number, size in enumerate(self.sizes):
            name = first.get(number, f"sum {number}")  # layers that shared a sum and have parted since
            header[name] = {"dtype": "F32", "shape": [size, size], "data_offsets": [at, at + 4 * size * size]}
            at += 4 * size * size
        text = json.dumps(header, separators=(",", ":")).encode()
        with self.path.open("r+b") as stream:
            stream.write(struct.pack("<Q", self.start - 8) + text.ljust(self.start - 8))
        self.path.chmod(0o644)


def gram_bytes(model: nn.Module, itemsize: int = 4) -> int:
    """Of all Gram matrices of a model, if no two layers had one input: an upper bound."""
    return sum(itemsize * module.in_features**2 for _, module in linear_layers(model))


@torch.no_grad()
def write_grams(
    model: nn.Module,
    batches: Iterable[Mapping[str, Any]],
    folder: Path,
    *,
    held: int = HELD,
    forward: Callable[..., Any] | None = None,
) -> None:
    """Run the model over batches and write `grams.safetensors`.

    Every batch reads and writes all sums once: make them as large as the activations let you.

    :param held: bytes up to which sums are float64 in memory; beyond they are float32 in the file.
    :param forward: how the model runs over a batch, if not as model(**batch).
    """
    if gram_bytes(model, 8) <= held:
        save_grams(capture_grams(model, batches), folder)
        return
    file = GramFile(folder, [path for path, _ in linear_layers(model)])
    sums = sum_grams(model, batches, file.allocate, forward)
    for total, count in zip(sums.sums, sums.counts, strict=True):
        total.div_(max(count, 1))
    file.finish(sums.number)
