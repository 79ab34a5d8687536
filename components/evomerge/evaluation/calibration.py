"""Calibration: one forward of a merged model, in which each linear layer is fitted to the parents just before it runs.

Sources: RegMean++ (Nguyen et al., arXiv 2508.03121) takes RegMean's Gram matrices from what goes into the layers of
the merged model, not of the parents, layer after layer. FeatCal (Gu et al., arXiv 2605.13030) also takes the parents'
own features as the target, so that a layer makes up for what the layers below it got wrong. For a layer with weights
W_i of parent i, inputs X_i in that parent and X̂_i in the merged model on the same examples, both are

    argmin_W  Σ w_i·‖X̂_i Wᵀ − Y_i‖² + ρ·‖W − Σ w_i W_i‖²,      Y_i = (α·X_i + (1 − α)·X̂_i) W_iᵀ

with α = 0 for RegMean++ and α = 1 for FeatCal. A bias is one more column of W, for an input that is always 1.

The layers are met in the order in which the model runs them, so one forward of all the parents' examples together
does it, for any architecture whose linear layers are `torch.nn.Linear`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from components.shared.merging.methods.averages.linear import linear

from .merging import Diverged

# ρ as a share of the mean diagonal of Σ Gᵢ: decides directions that the examples do not show, and hardly any other.
RIDGE = 1e-4


@dataclass(frozen=True)
class Examples:
    """What one parent is calibrated on.

    inputs: keyword arguments of the model's forward, tensors of n ≥ 0 rows; the same names and the same shapes but for
    n in every parent's. used: bool (n,) or (n, T), the positions of a layer's input that count.
    """

    inputs: Mapping[str, Tensor]
    used: Tensor


def fit(
    weights: Sequence[Tensor],
    inputs: Sequence[Tensor],
    own: Sequence[Tensor],
    shares: Sequence[float],
    alpha: float,
) -> Tensor:
    """The layer of the formula at the top.

    weights: N of (out, in). inputs, own: N of (n_i, in), X̂_i and X_i; n_i may be 0. shares: w_i ≥ 0, summing to 1.
    Products in float32, solved in float64 by Cholesky; returns float32 (out, in).
    """
    mean = linear(weights, shares).double()
    gram = torch.zeros(mean.shape[1], mean.shape[1], dtype=torch.float64, device=mean.device)
    target = torch.zeros_like(mean)
    for weight, x, mine, share in zip(weights, inputs, own, shares, strict=True):
        if share == 0:
            continue
        gram += (x.T @ x).double() * share
        wanted = torch.lerp(x, mine, alpha)
        target += weight.double() @ (wanted.T @ x).double() * share
    ridge = RIDGE * gram.diagonal().mean()
    if ridge == 0:  # nothing goes into this layer: every matrix fits, and the mean is the natural one
        return mean.float()
    gram.diagonal().add_(ridge)
    target += ridge * mean
    factor, failed = torch.linalg.cholesky_ex(gram)
    if failed:
        raise Diverged("a layer's inputs in the merged model are not finite")
    return torch.cholesky_solve(target.T, factor).T.float().contiguous()


class Calibration:
    """Keeps what goes into every linear layer of every parent, and fits merged models to it."""

    def __init__(
        self,
        model: nn.Module,
        parents: Sequence[Mapping[str, Tensor]],
        examples: Sequence[Examples],
        *,
        fitted: Callable[[str], bool],
    ) -> None:
        """model: of the parents' architecture; it is overwritten. parents: state dicts. examples: of each parent.
        fitted: whether the tensor of this name is every parent's.

        Holds Σ_layers (positions × in) float32 numbers for each parent.
        """
        self.parents, self.examples, self.fitted = parents, examples, fitted
        self.own = [
            self._inputs(model, parent, mine) if len(mine.used) else {}
            for parent, mine in zip(parents, examples, strict=True)
        ]
        names = examples[0].inputs
        self.inputs = {name: torch.cat([mine.inputs[name] for mine in examples]) for name in names}
        self.rows = [len(mine.used) for mine in examples]

    def layers(self, model: nn.Module) -> dict[str, nn.Linear]:
        """The layers that can be fitted, by path. A weight that is tied to another tensor is that tensor's."""
        names = dict(model.named_parameters())
        return {
            path: module
            for path, module in model.named_modules()
            if isinstance(module, nn.Linear) and f"{path}.weight" in names and self.fitted(f"{path}.weight")
        }

    def _inputs(self, model: nn.Module, parent: Mapping[str, Tensor], mine: Examples) -> dict[str, Tensor]:
        """Path → (positions, in) float32: what goes into the layers of a parent on its own examples."""
        targets = dict(model.named_parameters()) | dict(model.named_buffers())
        with torch.no_grad():
            for name, tensor in parent.items():
                targets[name].copy_(tensor)
        found: dict[str, Tensor] = {}
        latest: list[tuple[Tensor, Tensor]] = []  # q, k and v have one input: keep it once

        def keep(path: str, x: Tensor) -> None:
            if path in found or x.shape[:-1] != mine.used.shape:
                return
            if not latest or latest[0][0] is not x:
                latest[:] = [(x, x[mine.used].float())]
            found[path] = latest[0][1]

        _run(model, self.layers(model), mine.inputs, keep)
        return found

    def calibrate(self, model: nn.Module, shares: Callable[[str], Sequence[float]], alpha: float) -> None:
        """Fit the layers of a merged model, in place.

        shares: of a tensor's name, how much each parent counts. A layer that never ran for some parent, or runs on
        other positions than the tokens', stays as it was merged; one that runs several times is fitted at the first.
        Raises Diverged on numbers that are not finite.
        """
        layers = self.layers(model)
        done: set[str] = set()

        def refit(path: str, x: Tensor) -> None:
            if path in done or x.shape[:-1] != (sum(self.rows), *self.examples[0].used.shape[1:]):
                return
            if any(rows and path not in own for rows, own in zip(self.rows, self.own, strict=True)):
                return
            done.add(path)
            parts = x.float().split(self.rows)
            inputs = [part[mine.used] for part, mine in zip(parts, self.examples, strict=True)]
            own = [captured.get(path, x) for captured, x in zip(self.own, inputs, strict=True)]
            weights = [parent[f"{path}.weight"].float() for parent in self.parents]
            module = layers[path]
            if module.bias is not None:
                biases = [parent[f"{path}.bias"].float() for parent in self.parents]
                weights = [torch.cat([w, b[:, None]], 1) for w, b in zip(weights, biases, strict=True)]
                inputs, own = [_with_one(one) for one in inputs], [_with_one(one) for one in own]
            merged = fit(weights, inputs, own, shares(f"{path}.weight"), alpha)
            if not torch.isfinite(merged).all():
                raise Diverged(f"{path} is not finite after calibration")
            if module.bias is not None:
                module.bias.copy_(merged[:, -1])
                merged = merged[:, :-1]
            module.weight.copy_(merged)

        _run(model, layers, self.inputs, refit)


def _with_one(x: Tensor) -> Tensor:
    """(n, in) → (n, in + 1): the input of a bias."""
    return torch.cat([x, torch.ones_like(x[:, :1])], 1)


def _run(
    model: nn.Module,
    layers: Mapping[str, nn.Module],
    inputs: Mapping[str, Tensor],
    before: Callable[[str, Tensor], None],
) -> None:
    """One forward in evaluation mode, `before(path, input)` called before each layer runs."""

    def hook(path: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        return lambda module, given: before(path, given[0])

    handles = [module.register_forward_pre_hook(hook(path)) for path, module in layers.items()]
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            model(**inputs)
    finally:
        model.train(training)
        for handle in handles:
            handle.remove()
