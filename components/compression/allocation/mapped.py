"""Weights in files, mapped: they take address space, and memory only while there is some to spare."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

import numpy as np
import torch
from torch import Tensor, nn

from components.shared.models.remote_code.coded import Coded


def file_name(*parts: object) -> str:
    """A name of a file for whatever these say, another for each."""
    return " ".join(quote(str(part), safe="") for part in parts)


def tensor_in(file: Path, dtype: torch.dtype = torch.float32) -> Tensor:
    """The tensor in a numpy file, which writing to the tensor does not change. bfloat16 lies there as uint16."""
    return torch.from_numpy(np.load(file, mmap_mode="c")).view(dtype)


def map_weights(modules: Mapping[str, nn.Module], folder: Path) -> dict[str, Path]:
    """The weights of codable modules as float32 in numpy files, by path.

    What coded modules have decoded lies there from now on, and no longer in memory.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = {path: folder / f"{file_name(path)}.npy" for path in modules}
    for path, module in modules.items():
        weight = module.weight
        assert isinstance(weight, Tensor)
        room = np.lib.format.open_memmap(files[path], "w+", np.float32, tuple(weight.shape))
        torch.from_numpy(room).copy_(weight.detach())
        if isinstance(module, Coded):
            module.decoded = tensor_in(files[path]).to(module.code.device)
    return files
