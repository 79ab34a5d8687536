"""A Hugging Face checkpoint's tensors where they lie: mapped files, read a piece at a time."""

from __future__ import annotations

import json
import math
import mmap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from components.shared.runtime.artifact.weights import INDEX, SINGLE, header, headers
from components.shared.runtime.errors import ArtifactError, InputError

DTYPES = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}


@dataclass(frozen=True)
class TensorLocation:
    """Where a tensor's bytes are, in which type and shape. offset: in bytes, from the start of the file."""

    file: str
    offset: int
    dtype: str
    shape: tuple[int, ...]

    @property
    def count(self) -> int:
        """How many numbers it has."""
        return math.prod(self.shape)


class MappedModel:
    """The folder of one model. Tensors are views of the mapped files: nothing is copied until a piece is read.

    :param folder: config.json and safetensors, one file or shards.
    :raises ArtifactError: no config.json, no or broken safetensors.
    :raises InputError: quantised or coded weights.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        path = self.folder / "config.json"
        try:
            self.config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ArtifactError(
                "this is no Hugging Face model",
                where=str(path),
                why=str(error),
                fix="give the folder of a model: config.json and *.safetensors",
            ) from error
        for key in ("quantization_config", "storage"):
            if self.config.get(key):
                raise InputError(
                    "a model whose weights are stored as codes cannot be merged",
                    where=str(path),
                    why=f"it has {key}",
                    fix="merge before quantising",
                )
        if not headers(self.folder):
            raise ArtifactError(
                f"there is neither {SINGLE} nor {INDEX}", where=str(self.folder), fix="save it as safetensors"
            )
        self.tensors: dict[str, TensorLocation] = {}
        self._maps: dict[str, mmap.mmap] = {}
        for file in self._files():
            self._map(file)

    def _files(self) -> list[str]:
        index = self.folder / INDEX
        return (
            sorted(set(json.loads(index.read_text())["weight_map"].values())) if index.exists() else [SINGLE]
        )

    def _map(self, file: str) -> None:
        path = self.folder / file
        with path.open("rb") as stream:
            start = 8 + int.from_bytes(stream.read(8), "little")
            # Copy on write, though nobody writes: torch warns of buffers that cannot be written to.
            self._maps[file] = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY)
        for name, entry in header(path).items():
            if entry["dtype"] not in DTYPES:
                raise InputError(
                    f"a tensor of type {entry['dtype']} cannot be merged",
                    where=f"{path}: {name}",
                    fix=f"merge models stored as {', '.join(DTYPES)}",
                )
            self.tensors[name] = TensorLocation(
                file, start + entry["data_offsets"][0], entry["dtype"], tuple(entry["shape"])
            )

    def flat(self, name: str) -> Tensor:
        """A view of the tensor's numbers as they are stored, (n,)."""
        tensor = self.tensors[name]
        dtype = DTYPES[tensor.dtype]
        if not tensor.count:
            return torch.empty(0, dtype=dtype)
        return torch.frombuffer(
            self._maps[tensor.file], dtype=dtype, count=tensor.count, offset=tensor.offset
        )

    def release(self, name: str) -> None:
        """Lets go of the tensor's pages: they count as this process's memory as long as they are mapped in."""
        tensor = self.tensors[name]
        end = tensor.offset + tensor.count * DTYPES[tensor.dtype].itemsize
        first = -(-tensor.offset // mmap.PAGESIZE) * mmap.PAGESIZE
        length = end // mmap.PAGESIZE * mmap.PAGESIZE - first
        if length > 0:
            self._maps[tensor.file].madvise(mmap.MADV_DONTNEED, first, length)
