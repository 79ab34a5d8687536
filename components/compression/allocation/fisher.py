"""What an error in a layer's output does to what the model says, from one backward pass.

For small errors δy of a layer's output the KL divergence rises by ½ E[(gᵀδy)²], g being the gradient of the loss of a token
that the model itself draws (the Fisher information). With what outputs and tokens have in common left out, that is
½ Σ_i E[g_i²] Δ_i H Δ_iᵀ over the rows of the weight: one weight a row, for all layers at once, where a measurement of each
tensor takes a run of the model. H is in hessian.py. Rows as GuidedQuant (Kim et al., arXiv 2505.07004) weighs them, the
whole as in Kronecker-factored curvature (Martens and Grosse, arXiv 1503.05671). Where errors of many tokens are alike, as a
value projection's are, they add up to several times as much.

An embedding is weighed by token: how often it comes, with its gradient; one that the head shares, also by how likely it
is to be predicted. What a text of some thousand tokens says of a rare one is little: UNIFORM of the weight is shared out
evenly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from components.shared.models.gram import map_grams
from components.shared.runtime.tracking.progress import Progress

from .mapped import file_name
from .text import TextRows

UNIFORM = 0.2
"""Of a tensor's weight, the share that all rows have alike."""


class Curvature:
    """Second moments of gradients, added up over tokens.

    outputs   path → (out,) Σ g² of a layer's outputs
    tokens    (V,) Σ ‖g‖² / hidden of the embeddings of each token, and `columns` (hidden,) the same by column
    predicted (V,) Σ p(1 − p): what an error in a logit weighs; `frequency` (V,) Σ p
    """

    def __init__(self, model: PreTrainedModel, seed: int) -> None:
        self.model, self.generator = model, torch.Generator().manual_seed(seed)
        self.outputs: dict[str, Tensor] = {}
        self.tokens = self.columns = self.predicted = self.frequency = torch.zeros(0)
        self.count = 0

    def add(self, ids: Tensor) -> None:
        """One row of tokens (1, T), forward and backward."""
        embedded: list[Tensor] = []
        head = self.model.get_output_embeddings()
        with self._hooks(embedded, head), torch.enable_grad():
            logits = self.model(input_ids=ids, use_cache=False).logits[0].float()
            with torch.no_grad():
                p = logits.softmax(-1)
                drawn = torch.multinomial(p.cpu(), 1, generator=self.generator)[:, 0].to(p.device)
                variance = (p * (1 - p)).sum(0).cpu()
                likely = p.sum(0).cpu()
            del p
            F.cross_entropy(logits, drawn, reduction="sum").backward()
        gradient = embedded[0].grad
        assert gradient is not None
        squares = gradient[0].float().square().cpu()
        if not self.count:
            self.predicted, self.frequency = torch.zeros_like(variance), torch.zeros_like(likely)
            self.tokens, self.columns = torch.zeros(len(variance)), torch.zeros(squares.shape[1])
        self.tokens.index_add_(0, ids[0].cpu(), squares.mean(1))
        self.columns += squares.sum(0)
        self.predicted += variance
        self.frequency += likely
        self.count += ids.shape[1]

    @contextmanager
    def _hooks(self, embedded: list[Tensor], head: nn.Module | None) -> Iterator[None]:
        """Inside the block gradients begin at the embedded tokens, and reach every linear layer's output."""

        def begin(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
            embedded.append(output.detach().requires_grad_(True))
            return embedded[-1]

        def note(path: str) -> Callable[[nn.Module, Any, Tensor], None]:
            def add(gradient: Tensor) -> None:
                total = gradient.flatten(0, -2).float().square().sum(0).cpu()
                self.outputs[path] = self.outputs[path] + total if path in self.outputs else total

            def hook(module: nn.Module, inputs: Any, output: Tensor) -> None:
                if output.requires_grad:
                    output.register_hook(add)

            return hook

        handles = [self.model.get_input_embeddings().register_forward_hook(begin)]
        for path, module in self.model.named_modules():
            if hasattr(module, "in_features") and module is not head:
                handles.append(module.register_forward_hook(note(path)))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def calibrate(
    model: PreTrainedModel,
    modules: Mapping[str, nn.Module],
    rows: TextRows,
    folder: Path,
    progress: Progress,
    *,
    seed: int,
) -> tuple[dict[str, Path], dict[str, Path], dict[str, float]]:
    """Hessians, what errors in each row of each weight weigh, and the sensitivities, of all modules in one run over a text.

    :returns: path → numpy file (in, in) float32; path → numpy file (out,) float32, whose geometric mean is 1; path → the
        rise of the KL, nats a token, for a unit of the error that both of them weigh.
    """
    folder.mkdir(parents=True, exist_ok=True)
    curvature = Curvature(model, seed)
    progress.start("calibrate", len(rows))

    def batches() -> Iterator[dict[str, Tensor]]:
        for _, batch in rows.batches():
            yield {"input_ids": batch.input_ids}
            progress.step()

    device = next(model.parameters()).device
    hessians = map_grams(model, batches(), folder, lambda input_ids: curvature.add(input_ids.to(device)))
    weights = row_weights(model, modules, curvature, hessians, folder)
    importance, sensitivity = {}, {}
    for path, weight in weights.items():
        weight = (1 - UNIFORM) * weight + UNIFORM * weight.mean()
        scale = float(weight.clamp_min(1e-30).log().mean().exp())
        file = folder / f"{file_name(path)} rows.npy"
        np.save(file, (weight / scale).clamp_min(1e-6).float().numpy())
        importance[path], sensitivity[path] = file, scale / 2
    return hessians, importance, sensitivity


def row_weights(
    model: PreTrainedModel,
    modules: Mapping[str, nn.Module],
    curvature: Curvature,
    hessians: dict[str, Path],
    folder: Path,
) -> dict[str, Tensor]:
    """Path → (out,) float64, what the square of an error weighs that leaves a row as H says. Adds H of embeddings."""
    count = max(curvature.count, 1)
    weights = {
        path: curvature.outputs[path].double() / count for path in modules if path in curvature.outputs
    }
    paths = {id(module): path for path, module in model.named_modules()}
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    of_embedding, of_head = paths[id(embedding)], paths[id(head)] if head is not None else ""
    predicted = curvature.predicted.double() / count
    if of_head in modules:
        weights[of_head] = predicted
    if of_embedding in modules:
        hidden = len(curvature.columns)
        seen = curvature.tokens.double()
        mean = float(seen.sum() / count)  # of a token that comes, its gradient's mean square
        likely = curvature.frequency.double() / count
        seen = (
            seen / count + mean * likely
        ) / 2  # the model's own guess of how often: for those that did not come
        h = torch.diag(curvature.columns / max(float(curvature.columns.mean()), 1e-30))
        tied = of_head not in modules and of_head in hessians and head_shares(head, embedding)
        if tied:
            of_states = torch.from_numpy(np.load(hessians[of_head]))
            size = float(of_states.diagonal().mean())
            share = float(predicted.sum()) * size, float(seen.sum())
            h = (share[0] * of_states / max(size, 1e-30) + share[1] * h) / max(sum(share), 1e-30)
            seen = seen + predicted * size
        assert h.shape == (hidden, hidden)
        hessians[of_embedding] = folder / f"{file_name(of_embedding)}.npy"
        np.save(hessians[of_embedding], h.float().numpy())
        weights[of_embedding] = seen
    return weights


def head_shares(head: nn.Module | None, embedding: nn.Module) -> bool:
    """Whether the head computes with the embedding's weight."""
    return head is not None and head.weight is embedding.weight
