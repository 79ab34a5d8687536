"""Gram matrices XᵀX of what goes into each linear layer, for RegMean merging and data-aware quantisation."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from components.shared.runtime.errors import ArtifactError

from .remote_code.coded import CodedLinear

FILE = "grams.safetensors"


def linear_layers(model: nn.Module) -> list[tuple[str, nn.Linear | CodedLinear]]:
    """The layers that have Gram matrices, and their paths."""
    return [
        (path, module)
        for path, module in model.named_modules()
        if isinstance(module, (nn.Linear, CodedLinear))
    ]


@dataclass
class LayerInput:
    """An input of one or several layers: x (…, in), its rows that count, (N, in) float32, and the layers' paths."""

    x: Tensor
    rows: Tensor
    paths: list[str]


class GramSums:
    """Forward hooks that add up xᵀx for every linear layer of a model.

    Layers share a sum (q, k and v; gate and up) for as long as their inputs are the same tensors.

    :param allocate: number of a sum and rows (N, in) → a tensor (in, in) to add up their xᵀx in.
    """

    def __init__(self, model: nn.Module, allocate: Callable[[int, Tensor], Tensor]) -> None:
        self.allocate = allocate
        self.sums: list[Tensor] = []
        self.counts: list[int] = []
        self.number: dict[str, int] = {}  # path → which sum
        self.mask: Tensor | None = None  # (B, T) bool: the tokens that count; None: all
        self.pending: LayerInput | None = None
        self.handles = [
            module.register_forward_pre_hook(lambda _, inputs, path=path: self.add(path, inputs[0]))
            for path, module in linear_layers(model)
        ]

    def add(self, path: str, x: Tensor) -> None:
        """Note an input of the layer at `path`.

        :param x: (B, T, in), or (…, in) where the mask does not apply.
        """
        if self.pending is None or self.pending.x is not x or path in self.pending.paths:
            self.flush()
            masked = self.mask is not None and x.shape[:2] == self.mask.shape
            rows = (x[self.mask] if masked else x.flatten(0, -2)).float()
            self.pending = LayerInput(x, rows, [])
        self.pending.paths.append(path)

    def flush(self) -> None:
        """Add the pending input to the sums of its layers; layers part where only some of a sum's had it."""
        if self.pending is None:
            return
        rows = self.pending.rows
        sharing: dict[int | None, list[str]] = {}
        for path in self.pending.paths:
            sharing.setdefault(self.number.get(path), []).append(path)
        for number, paths in sharing.items():
            if number is None or len(paths) < list(self.number.values()).count(number):
                fresh = self.allocate(len(self.sums), rows)
                fresh.zero_() if number is None else fresh.copy_(self.sums[number])
                self.counts.append(0 if number is None else self.counts[number])
                self.sums.append(fresh)
                number = len(self.sums) - 1
                self.number |= dict.fromkeys(paths, number)
            total = self.sums[number]
            if (total.dtype, total.device) == (rows.dtype, rows.device):
                total.addmm_(rows.mT, rows)  # where it lies: no product besides
            else:
                total.add_((rows.mT @ rows).to(total.device))
            self.counts[number] += len(rows)
        self.pending = None

    def close(self) -> None:
        """Take the hooks off."""
        for handle in self.handles:
            handle.remove()
        self.flush()


def sum_grams(
    model: nn.Module,
    batches: Iterable[Mapping[str, Any]],
    allocate: Callable[[int, Tensor], Tensor],
    forward: Callable[..., Any] | None = None,
) -> GramSums:
    """Run the model over batches and add up xᵀx over the inputs x of every linear layer.

    :param allocate: as in GramSums.
    :param forward: how the model runs over a batch, if not as model(**batch), of whose logits only the last column is
        computed: nobody reads them, and they would take more room than all else.
    """
    sums = GramSums(model, allocate)
    if forward is None:
        sums.handles += last_column_alone(model)
    try:
        for batch in batches:
            mask = batch.get("attention_mask")
            sums.flush()
            sums.mask = mask.bool() if mask is not None and mask.ndim == 2 else None
            (forward or model)(**batch)
    finally:
        sums.close()
    return sums


def last_column_alone(model: nn.Module) -> list[RemovableHandle]:
    """Have the output layer compute its last column alone, after whoever else looks at what goes into it."""
    head = getattr(model, "get_output_embeddings", lambda: None)()
    if head is None:
        return []
    return [head.register_forward_pre_hook(lambda _, inputs: (inputs[0][..., -1:, :], *inputs[1:]))]


@torch.no_grad()
def capture_grams(model: nn.Module, batches: Iterable[Mapping[str, Any]]) -> dict[str, Tensor]:
    """Run the model over batches and average xᵀx over the inputs x of every linear layer, summed in float64.

    :param batches: keyword arguments of the model; padding (0 in a 2-D `attention_mask`) is left out.
    :returns: module path → (in, in) float32, one tensor for layers with the same inputs. Layers that never ran are left
        out; a layer that runs several times for a token (refinement) counts every run.
    """

    def allocate(number: int, rows: Tensor) -> Tensor:
        return rows.new_empty((rows.shape[1], rows.shape[1]), dtype=torch.float64)

    sums = sum_grams(model, batches, allocate)
    means = []
    for count in sums.counts:  # one in both types at a time
        means.append(sums.sums.pop(0).div_(max(count, 1)).float())
    return {path: means[number] for path, number in sums.number.items()}


@torch.no_grad()
def map_grams(
    model: nn.Module,
    batches: Iterable[Mapping[str, Any]],
    folder: Path,
    forward: Callable[..., Any] | None = None,
) -> dict[str, Path]:
    """Capture Gram matrices into files, for models whose do not fit into memory together: summed in float32 where they lie.

    :param forward: how the model runs over a batch, if not as model(**batch).
    :returns: module path → a file of numpy's, (in, in) float32; one for layers with the same inputs.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files: list[Path] = []

    def allocate(number: int, rows: Tensor) -> Tensor:
        files.append(folder / f"{number:05d}.npy")
        shape = (rows.shape[1], rows.shape[1])
        return torch.from_numpy(np.lib.format.open_memmap(files[-1], "w+", np.float32, shape))

    sums = sum_grams(model, batches, allocate, forward)
    for total, count in zip(sums.sums, sums.counts, strict=True):
        total.div_(max(count, 1))
    return {path: files[number] for path, number in sums.number.items()}


def save_grams(grams: Mapping[str, Tensor], folder: Path) -> None:
    """Write `grams.safetensors`. Layers with the same input share one tensor: the header says which."""
    distinct: dict[str, Tensor] = {}
    same: dict[str, str] = {}
    for path in sorted(grams):
        twin = next(
            (k for k, t in distinct.items() if t.shape == grams[path].shape and torch.equal(t, grams[path])),
            None,
        )
        if twin is None:
            distinct[path] = grams[path].contiguous()
        else:
            same[path] = twin
    save_file(distinct, folder / FILE, metadata={"same": json.dumps(same, sort_keys=True)})
    (folder / FILE).chmod(0o644)


def load_grams(folder: Path) -> dict[str, Tensor]:
    """Module path → Gram matrix of an artifact.

    :raises ArtifactError: the artifact carries none.
    """
    if not (folder / FILE).is_file():
        raise ArtifactError(
            "the artifact has no Gram matrices",
            where=str(folder),
            why=f"{FILE} is missing",
            fix="give what phase cognate has made, or another merge method",
        )
    with safe_open(folder / FILE, "pt") as file:
        grams = {path: file.get_tensor(path) for path in file.keys()}  # noqa: SIM118
        same = json.loads((file.metadata() or {}).get("same", "{}"))
    return grams | {path: grams[twin] for path, twin in same.items()}
