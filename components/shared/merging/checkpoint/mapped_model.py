"""A Hugging Face checkpoint's tensors where they lie: mapped files, read a piece at a time."""

from __future__ import annotations

import json
import math
import mmap
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from components.shared.runtime.artifact.weights import INDEX, SINGLE, header, headers, json_object
from components.shared.runtime.errors import ArtifactError, InputError

from . import families
from .lora import Adapter
from .operand import Operand, StoredTensor

DTYPES = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}
# Never merged: the same in every model, and carried over as they are.
CARRIED = {
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip


@dataclass(frozen=True)
class TensorLocation:
    """Where a tensor's bytes are, in which type and shape. offset: in bytes, from the start of the file."""

    file: Path
    offset: int
    dtype: str
    shape: tuple[int, ...]

    @property
    def count(self) -> int:
        """How many numbers it has."""
        return math.prod(self.shape)


class MappedModel:
    """The folder of one model. Tensors are views of the mapped files: nothing is copied until a piece is read.

    Their names are those of the architecture: a prefix that the file leaves out is there, buffers that are computed
    from the configuration are not.

    :param folder: config.json and safetensors, one file or shards.
    :param lora: the folder of a LoRA that is added where it is read.
    :raises ArtifactError: no config.json, no or broken safetensors.
    :raises InputError: quantised or coded weights, or a LoRA that does not fit.
    """

    def __init__(self, folder: Path | str, lora: Path | None = None) -> None:
        self.folder = Path(folder)
        self.config = self._configuration()
        stored = headers(self.folder)
        if not stored:
            raise ArtifactError(
                f"there is neither {SINGLE} nor {INDEX}", where=str(self.folder), fix="save it as safetensors"
            )
        self.tensors: dict[str, TensorLocation] = {}
        self._maps: dict[Path, mmap.mmap] = {}
        self._prefix = families.prefix(stored, self.config)
        for file in self._files():
            self._map(self.folder / file)
        self.lora = None if lora is None else Adapter(lora)
        if self.lora is not None:
            self._map(self.lora.weights, self.lora.whole_tensors)
            self.lora.check(self.tensors)

    def _configuration(self) -> dict[str, Any]:
        path = self.folder / "config.json"
        snapshots = sorted(self.folder.glob("snapshots/*/config.json"))
        try:
            config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(config, dict):
                raise ValueError("it is no JSON object")
        except (OSError, ValueError, RecursionError) as error:
            raise ArtifactError(
                "this is no Hugging Face model",
                where=str(path),
                why=str(error),
                fix=f"this is a cache of the hub, the model is {snapshots[-1].parent}"
                if snapshots
                else "give the folder of a model: config.json and *.safetensors",
            ) from error
        for key in ("quantization_config", "storage"):
            if config.get(key):
                raise InputError(
                    "a model whose weights are stored as codes cannot be merged",
                    where=str(path),
                    why=f"it has {key}",
                    fix="merge before quantising",
                )
        return config

    def _files(self) -> list[str]:
        index = self.folder / INDEX
        if not index.exists():
            return [SINGLE]
        return sorted(set(json_object(index)["weight_map"].values()))  # of the form that `headers` asks for

    def _map(self, path: Path, renamed: Mapping[str, str] | None = None) -> None:
        """Map a file. renamed: the tensors that are taken from it and their names; None: all of them."""
        with path.open("rb") as stream:
            start = 8 + int.from_bytes(stream.read(8), "little")
            # Copy on write, though nobody writes: torch warns of buffers that cannot be written to.
            self._maps[path] = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY)
        for stored, entry in header(path).items():
            if renamed is not None and stored not in renamed:
                continue
            name = renamed[stored] if renamed is not None else families.prefixed(stored, self._prefix)
            dtype, shape = entry["dtype"], tuple(entry["shape"])
            if families.is_derived(name, dtype, shape, self.config):
                continue
            if dtype not in DTYPES | CARRIED:
                raise InputError(
                    f"a tensor of type {dtype} cannot be merged",
                    where=f"{path}: {stored}",
                    fix=f"merge models stored as {', '.join(DTYPES)}",
                )
            self.tensors[name] = TensorLocation(path, start + entry["data_offsets"][0], dtype, shape)

    @cached_property
    def vocabulary_rows(self) -> int | None:
        """How many rows the tokens' embedding has; where none is known by name, what the configuration says."""
        embedding = families.embedding_of(self.tensors)
        return (
            families.vocabulary_size(self.config) if embedding is None else self.tensors[embedding].shape[0]
        )

    @cached_property
    def head(self) -> str | None:
        """The output layer's matrix, where the model has one that is not its embedding."""
        head, embedding = families.head_of(self.tensors), families.embedding_of(self.tensors)
        if head is None or embedding is None or not self.ties:
            return head
        same = self.tensors[head].shape == self.tensors[embedding].shape and torch.equal(
            self.flat(head), self.flat(embedding)
        )
        self.release(head)
        self.release(embedding)
        return None if same else head

    @cached_property
    def ties(self) -> bool:
        """Whether the configuration, or the family's default, takes the embedding for the output layer."""
        return families.ties(self.config)

    def flat(self, name: str) -> Tensor:
        """A view of the tensor's numbers as they are stored, (n,)."""
        tensor = self.tensors[name]
        dtype = (DTYPES | CARRIED)[tensor.dtype]
        if not tensor.count:
            return torch.empty(0, dtype=dtype)
        return torch.frombuffer(
            self._maps[tensor.file], dtype=dtype, count=tensor.count, offset=tensor.offset
        )

    def operand(self, name: str, width: int) -> Operand:
        """The tensor as rows of a width, with the LoRA added."""
        stored = StoredTensor(self.flat(name), width)
        return stored if self.lora is None else self.lora.added(name, stored)

    def release(self, name: str) -> None:
        """Lets go of the tensor's pages: they count as this process's memory as long as they are mapped in."""
        tensor = self.tensors[name]
        end = tensor.offset + tensor.count * (DTYPES | CARRIED)[tensor.dtype].itemsize
        first = -(-tensor.offset // mmap.PAGESIZE) * mmap.PAGESIZE
        length = end // mmap.PAGESIZE * mmap.PAGESIZE - first
        if length > 0:
            self._maps[tensor.file].madvise(mmap.MADV_DONTNEED, first, length)
