"""Calibration: one forward of a merged model, in which each linear layer is fitted to the parents just before it runs.

What is fitted is FeatCal, down to RegMean++ (shared/merging/methods/activations/featcal.py).

The layers are met in the order in which the model runs them, so one forward of all the parents' examples together
does it, for any architecture whose linear layers are `torch.nn.Linear`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from components.shared.merging.inputs import Diverged
from components.shared.merging.methods.activations.featcal import fit


@dataclass(frozen=True)
class CalibrationExamples:
    """What one parent is calibrated on.

    :param inputs: keyword arguments of the model's forward, tensors of n ≥ 0 rows; the same names and the same shapes but
        for n in every parent's.
    :param used: bool (n,) or (n, T), the positions of a layer's input that count.
    """

    inputs: Mapping[str, Tensor]
    used: Tensor


class Calibration:
    """Keeps what goes into every linear layer of every parent, and fits merged models to it."""

    def __init__(
        self,
        model: nn.Module,
        parents: Sequence[Mapping[str, Tensor]],
        examples: Sequence[CalibrationExamples],
        *,
        fitted: Callable[[str], bool],
    ) -> None:
        """Run every parent on its examples; holds Σ_layers (positions × in) float32 numbers for each.

        :param model: of the parents' architecture; it is overwritten.
        :param parents: state dicts.
        :param examples: of each parent.
        :param fitted: whether the tensor of this name is every parent's.
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

    def _inputs(
        self, model: nn.Module, parent: Mapping[str, Tensor], mine: CalibrationExamples
    ) -> dict[str, Tensor]:
        """Path → (positions, in) float32: what goes into the layers of a parent on its own examples."""
        targets = dict(model.named_parameters()) | dict(model.named_buffers())
        with torch.no_grad():
            for name, tensor in parent.items():
                targets[name].copy_(tensor)
        captured: dict[str, Tensor] = {}
        latest: list[tuple[Tensor, Tensor]] = []  # q, k and v have one input: keep it once

        def keep(path: str, x: Tensor) -> None:
            if path in captured or x.shape[:-1] != mine.used.shape:
                return
            if not latest or latest[0][0] is not x:
                latest[:] = [(x, x[mine.used].float())]
            captured[path] = latest[0][1]

        _run(model, self.layers(model), mine.inputs, keep)
        return captured

    def calibrate(self, model: nn.Module, shares: Callable[[str], Sequence[float]], alpha: float) -> None:
        """Fit the layers of a merged model, in place.

        A layer that never ran for some parent, or runs on other positions than the tokens', stays as it was merged; one
        that runs several times is fitted at the first.

        :param shares: of a tensor's name, how much each parent counts.
        :param alpha: FeatCal's, in [0, 1].
        :raises Diverged: numbers are not finite.
        """
        layers = self.layers(model)
        done: set[str] = set()

        def refit(path: str, x: Tensor) -> None:
            if path in done or x.shape[:-1] != (sum(self.rows), *self.examples[0].used.shape[1:]):
                return
            if any(rows and path not in own for rows, own in zip(self.rows, self.own, strict=True)):
                return
            done.add(path)
            rows = x.float().split(self.rows)
            inputs = [part[mine.used] for part, mine in zip(rows, self.examples, strict=True)]
            own = [captured.get(path, x) for captured, x in zip(self.own, inputs, strict=True)]
            weights = [parent[f"{path}.weight"].float() for parent in self.parents]
            module = layers[path]
            if module.bias is not None:
                biases = [parent[f"{path}.bias"].float() for parent in self.parents]
                weights = [torch.cat([w, b[:, None]], 1) for w, b in zip(weights, biases, strict=True)]
                inputs, own = [*map(_with_ones, inputs)], [*map(_with_ones, own)]
            merged: Tensor = fit(weights, inputs, own, shares(f"{path}.weight"), alpha)
            if not torch.isfinite(merged).all():
                raise Diverged(f"{path} is not finite after calibration")
            if module.bias is not None:
                module.bias.copy_(merged[:, -1])
                merged = merged[:, :-1]
            module.weight.copy_(merged)

        _run(model, layers, self.inputs, refit)


def _with_ones(x: Tensor) -> Tensor:
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
        return lambda module, arguments: before(path, arguments[0])

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
