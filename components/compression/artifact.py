"""The artifact on disk: coded layers, the rest in 16 bits, and what the agent brought along."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from components.shared.models.hub.coded import Coded, install
from components.shared.models.loading import save
from components.shared.runtime.artifact import MANIFEST, Artifact

from .repack import repack

LEFT_OUT = ("grams.safetensors", "model*.safetensors", "model.safetensors.index.json", "*.py", MANIFEST)


@contextmanager
def coded(model: PreTrainedModel, codes: Mapping[str, tuple[str, bytes]]) -> Iterator[None]:
    """Inside the block, the modules at the paths of `codes` hold these codes: path → (codec, bytes).

    What a coded module did besides (8-bit activations, its own norm) stays.
    """
    before: dict[str, Any] = {path: model.get_submodule(path) for path in codes}
    try:
        for path, (codec, code) in codes.items():
            old = before[path]
            shape = old.spec["shape"] if isinstance(old, Coded) else list(old.weight.shape)
            spec = {"codec": codec, "shape": shape, "bytes": len(code)}
            if isinstance(old, Coded):
                spec |= {key: old.spec[key] for key in ("activations", "norm") if key in old.spec}
            install(model, path, spec, torch.frombuffer(bytearray(code), dtype=torch.uint8))
        yield
    finally:
        for path, old in before.items():
            parent, _, name = path.rpartition(".")
            setattr(model.get_submodule(parent), name, old)


def to_half(model: nn.Module, but: Iterable[str]) -> None:
    """Round the tensors that are kept as they are to float16, in place; not the weights of the modules at `but`.

    They keep their dtype; what they hold can then be stored in half the bytes without a further loss.
    """
    largest = torch.finfo(torch.float16).max
    coded_weights = {f"{path}.weight" for path in but}
    with torch.no_grad():
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            if name not in coded_weights and tensor.dtype == torch.float32:
                tensor.copy_(tensor.clamp(-largest, largest).half())


def write(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, source: Artifact, output: Path, *, card: str
) -> None:
    """Save the model in as few bytes as it takes, and with it the files of `source` that are not the model's own.

    Floats go to the file as float16 (`to_half` has rounded them); loading gives them config.json's dtype again. The
    modelling code travels bare.
    """
    save(model, tokenizer, output, card=card)
    for file in output.glob("*.safetensors"):
        tensors = {
            name: tensor.half() if tensor.dtype == torch.float32 else tensor
            for name, tensor in load_file(file).items()
        }
        file.unlink()
        save_file(tensors, file, metadata={"format": "pt"})
        file.chmod(0o644)
    repack(output)
    for name in source.manifest.files:
        if not (output / name).exists() and not any(Path(name).match(pattern) for pattern in LEFT_OUT):
            (output / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source.path / name, output / name)


def size_of(folder: Path) -> int:
    """Bytes of all files."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
