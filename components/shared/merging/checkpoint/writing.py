"""Safetensors written in pieces, in any order, by any thread: room for every tensor is made beforehand."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from components.shared.runtime.artifact.weights import INDEX, SINGLE

from .mapped_model import CARRIED, DTYPES

NAMES = {dtype: name for name, dtype in (DTYPES | CARRIED).items()}


class WeightsWriter:
    """The files of a model's weights: `model.safetensors`, or shards and their index.

    Room is reserved on the disk at once.

    :param folder: where they go.
    :param shapes: of every tensor, in the order in which they are to lie.
    :param dtypes: of every tensor.
    :param shard: bytes of a file at most (a single tensor may be more).
    :raises OSError: there is too little room.
    """

    def __init__(
        self,
        folder: Path,
        shapes: Mapping[str, tuple[int, ...]],
        dtypes: Mapping[str, torch.dtype],
        *,
        shard: int = 5 << 30,
    ) -> None:
        self.dtypes = dtypes
        self._locations: dict[str, tuple[int, int]] = {}
        self._open: list[int] = []
        sizes = {name: math.prod(shape) * dtypes[name].itemsize for name, shape in shapes.items()}
        files: list[list[str]] = [[]]
        filled = 0
        for name, size in sizes.items():
            if files[-1] and filled + size > shard:
                files.append([])
                filled = 0
            files[-1].append(name)
            filled += size
        titles = [SINGLE] if len(files) == 1 else [
            f"model-{number:05}-of-{len(files):05}.safetensors" for number in range(1, len(files) + 1)
        ]  # fmt: skip
        for title, names in zip(titles, files, strict=True):
            self._reserve(folder / title, names, shapes, sizes)
        if len(files) > 1:
            where = {name: title for title, names in zip(titles, files, strict=True) for name in names}
            index = {"metadata": {"total_size": sum(sizes.values())}, "weight_map": where}
            (folder / INDEX).write_text(json.dumps(index, indent=1, sort_keys=True) + "\n")

    def _reserve(
        self, path: Path, names: list[str], shapes: Mapping[str, tuple[int, ...]], sizes: Mapping[str, int]
    ) -> None:
        head: dict[str, object] = {"__metadata__": {"format": "pt"}}
        end = 0
        for name in names:
            head[name] = {
                "dtype": NAMES[self.dtypes[name]],
                "shape": list(shapes[name]),
                "data_offsets": [end, end + sizes[name]],
            }
            end += sizes[name]
        text = json.dumps(head, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o644)
        self._open.append(file)
        os.posix_fallocate(file, 0, 8 + len(text) + end)
        os.pwrite(file, len(text).to_bytes(8, "little") + text, 0)
        start = 8 + len(text)
        for name in names:
            self._locations[name] = (file, start)
            start += sizes[name]

    def write(self, name: str, start: int, piece: Tensor) -> bool:
        """Write entries start … of the flat tensor, rounded to the file's type. From any thread.

        :returns: whether all of them are finite in that type.
        """
        file, offset = self._locations[name]
        dtype = self.dtypes[name]
        rounded = piece.to(dtype).contiguous().view(-1)
        data = memoryview(rounded.view(torch.uint8).numpy().data) if len(rounded) else memoryview(b"")
        position = offset + start * dtype.itemsize
        while data:
            written = os.pwrite(file, data, position)
            data, position = data[written:], position + written
        return is_finite(rounded)

    def close(self, *, sync: bool) -> None:
        """Close the files. sync: wait until the disk has it all."""
        while self._open:
            file = self._open.pop()
            try:
                if sync:
                    os.fsync(file)
            finally:
                os.close(file)


def is_finite(numbers: Tensor) -> bool:
    """Whether none is inf or nan: a sum tells where it is finite itself, and is ten times as fast."""
    if not numbers.is_floating_point() or math.isfinite(float(numbers.sum(dtype=torch.float32))):
        return True
    return bool(torch.isfinite(numbers).all())
