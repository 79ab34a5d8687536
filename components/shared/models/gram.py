"""Gram matrices XᵀX of what goes into each linear layer: what RegMean merging and data-aware quantisation
need."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from components.shared.runtime.errors import ArtifactError

from .hub.coded import CodedLinear

FILE = "grams.safetensors"


class GramSums:
    """Forward hooks that add up xᵀx, in float64, for every linear layer of a model."""

    def __init__(self, model: nn.Module) -> None:
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}
        self.real: Tensor | None = None  # (B, T) bool: the tokens that count; None: all
        self.latest: tuple[Tensor, Tensor, int] | None = None  # q, k and v have one input: multiply once
        self.handles = [
            module.register_forward_pre_hook(lambda _, inputs, path=path: self.add(path, inputs[0]))
            for path, module in model.named_modules()
            if isinstance(module, (nn.Linear, CodedLinear))
        ]

    def add(self, path: str, x: Tensor) -> None:
        """x: (B, T, in), or (…, in) where the mask does not apply."""
        if self.latest is None or self.latest[0] is not x:
            masked = self.real is not None and x.shape[:2] == self.real.shape
            rows = (x[self.real] if masked else x.flatten(0, -2)).float()
            self.latest = (x, (rows.mT @ rows).double(), len(rows))
        _, product, count = self.latest
        self.sums[path] = self.sums[path] + product if path in self.sums else product
        self.counts[path] = self.counts.get(path, 0) + count

    def close(self) -> None:
        """Take the hooks off."""
        for handle in self.handles:
            handle.remove()
        self.latest = None


@torch.no_grad()
def capture_grams(model: nn.Module, batches: Iterable[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Run the model over batches and average xᵀx over the inputs x of every linear layer.

    :param batches: keyword arguments of the model; padding (0 in a 2-D `attention_mask`) is left out.
    :return: module path → (in, in) float32. Layers that never ran are left out; a layer that runs several
        times for a token (refinement) counts every run.
    """
    sums = GramSums(model)
    try:
        for batch in batches:
            mask = batch.get("attention_mask")
            sums.real = mask.bool() if mask is not None and mask.ndim == 2 else None
            model(**batch)
    finally:
        sums.close()
    return {path: (total / max(sums.counts[path], 1)).float() for path, total in sums.sums.items()}


def save_grams(grams: Mapping[str, Tensor], folder: Path) -> None:
    """Write `grams.safetensors`. Layers with the same input share one tensor: the header says which."""
    kept: dict[str, Tensor] = {}
    same: dict[str, str] = {}
    for path in sorted(grams):
        twin = next(
            (k for k, t in kept.items() if t.shape == grams[path].shape and torch.equal(t, grams[path])), None
        )
        if twin is None:
            kept[path] = grams[path].contiguous()
        else:
            same[path] = twin
    save_file(kept, folder / FILE, metadata={"same": json.dumps(same, sort_keys=True)})
    (folder / FILE).chmod(0o644)


def load_grams(folder: Path) -> dict[str, Tensor]:
    """Module path → Gram matrix of an artifact.

    :raises ArtifactError: the artifact carries none.
    """
    if not (folder / FILE).is_file():
        raise ArtifactError("the artifact has no Gram matrices", where=str(folder), why=f"{FILE} is missing")
    with safe_open(folder / FILE, "pt") as file:
        grams = {path: file.get_tensor(path) for path in file.keys()}  # noqa: SIM118
        same = json.loads((file.metadata() or {}).get("same", "{}"))
    return grams | {path: grams[twin] for path, twin in same.items()}
