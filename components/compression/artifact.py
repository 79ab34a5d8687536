"""The artifact on disk: coded layers, the rest in 16 bits, and what makes the model an agent."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from components.shared.agent.agent import AGENT, DISPATCHER, EXPERTS
from components.shared.models.loading import save
from components.shared.models.remote_code.coded import Coded, install
from components.shared.models.remote_code.modeling_wrapped import ForgeWrapped
from components.shared.runtime.errors import ArtifactError

from .allocation.tensors import Tensors
from .codecs.codec import Code, CodeFormat
from .strip import strip_folder

CARRIED = (AGENT, EXPERTS, DISPATCHER, "LICENSE*", "NOTICE*")
"""What an artifact keeps of its input beside the model. Grams, trunks and lineages are of no use to inference."""


@contextmanager
def with_codes(model: PreTrainedModel, codes: Mapping[str, tuple[CodeFormat, np.ndarray]]) -> Iterator[None]:
    """Inside the block, the modules at the paths of `codes` hold these codes: path → how it is read, its bytes (uint8).

    What a coded module did besides (8-bit activations, its own norm) stays.
    """
    before: dict[str, Any] = {path: model.get_submodule(path) for path in codes}
    ties = model.ties() if isinstance(model, ForgeWrapped) else None
    try:
        for path, (format, code) in codes.items():
            old = before[path]
            shape = old.spec["shape"] if isinstance(old, Coded) else list(old.weight.shape)
            spec = format.spec() | {"shape": shape, "bytes": len(code)}
            if isinstance(old, Coded):
                spec |= {key: old.spec[key] for key in ("activations", "norm") if key in old.spec}
            install(model, path, spec, torch.from_numpy(code))
        if isinstance(model, ForgeWrapped):
            model.tie_to_code()
        yield
    finally:
        for path, old in before.items():
            model.set_submodule(path, old)
        if isinstance(model, ForgeWrapped):
            model.tie_again(ties)


def attach_decoded(
    model: PreTrainedModel, codes: Mapping[str, tuple[CodeFormat, np.ndarray]], weights: Mapping[str, Tensor]
) -> None:
    """Give the coded layers of a model that was loaded the weights that their codes decode to, as they lie in files.

    :raises ArtifactError: a layer holds another code.
    """
    for path, (_, code) in codes.items():
        layer: Any = model.get_submodule(path)
        if not np.array_equal(layer.code.cpu().numpy(), code):
            raise ArtifactError("a code was not stored as it was made", where=path)
        layer.decoded = weights[path].to(layer.code.device, layer.like.dtype)


def write_model(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, source: Path, output: Path, *, card: str
) -> None:
    """Save the model in as few bytes as it takes, and with it what makes it an agent, from the folder `source`.

    Floats that fit into 16 bits go there (half.py), the modelling code travels without comments.
    """
    if output.exists():
        shutil.rmtree(output)
    save(model, tokenizer, output, card=card, half=True)
    strip_folder(output)
    for pattern in CARRIED:
        for file in sorted(source.glob(pattern)):
            shutil.copyfile(file, output / file.name)


def size_breakdown(tensors: Tensors, plan: Mapping[str, Code], total: int) -> dict[str, Any]:
    """What an artifact's bytes are spent on, for the manifest: by code, on all else, and tensor by tensor.

    :param plan: path → code.
    :param total: bytes of the artifact.
    """
    stored: dict[str, int] = {}
    rows = []
    for path, code in plan.items():
        size, shape = tensors.bytes({path: code}), list(tensors.shapes[path])
        stored[str(code)] = stored.get(str(code), 0) + size
        bits, error = 8 * size / math.prod(shape), tensors.error(path, code)
        rows.append(
            {"tensor": path, "shape": shape, "code": str(code), "bytes": size, "bits": bits, "error": error}
        )
    return {"stored": stored | {"all else": total - sum(stored.values())}, "per_tensor": rows}


def folder_size(folder: Path) -> int:
    """Bytes of all files of a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
