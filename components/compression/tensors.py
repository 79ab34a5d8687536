"""The tensors of one model: encoded on demand, each code once, measured one by one, and all of it survives a kill."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import nn

from components.shared.runtime.checkpoint import Checkpoints
from components.shared.runtime.progress import Progress

from .encoding import Point, decode, encode, measure, worth_trying
from .hessian import weighted_error
from .menu import EXACT
from .trial import weight_of

REMEMBERED = 1 << 28  # bytes of decoded weights that are kept at hand


class Tensors:
    """Codes, points and sensitivities of a model's tensors.

    modules   path → module with a weight (out, in)
    hessians  path → (in, in) float32, where the layer's inputs were seen
    points    path → name of a code → its bytes and error
    codes     (path, name) → bytes
    """

    def __init__(
        self,
        modules: Mapping[str, nn.Module],
        hessians: Mapping[str, np.ndarray],
        checkpoints: Checkpoints,
        *,
        seed: int,
        threads: int,
    ) -> None:
        self.modules, self.hessians, self.checkpoints = modules, hessians, checkpoints
        self.seed, self.threads = seed, threads
        self.points: dict[str, dict[str, Point]] = {}
        self.codes: dict[tuple[str, str], bytes] = {}
        self.sensitivity: dict[str, float] = {}
        self.remembered: dict[tuple[str, str], np.ndarray] = {}
        self.entries = 0
        found = checkpoints.restore()
        if found is not None:
            self.entries = found.step
            self.sensitivity = dict(found.state["sensitivity"])
            for path, points in found.state["points"].items():
                self.points[path] = {name: Point(name, *figures) for name, figures in points.items()}
            for key, stored in found.tensors.items():
                path, _, name = key.rpartition("|")
                self.codes[path, name] = stored.numpy().tobytes()

    def weight(self, path: str) -> np.ndarray:
        """(out, in) float32."""
        return weight_of(self.modules[path])

    def code(self, path: str, name: str) -> bytes:
        """The tensor's code; "a+b" is b's code of what a's decodes to."""
        if (path, name) not in self.codes:
            before, _, last = name.rpartition("+")
            w = self._decoded(path, before) if before else self.weight(path)
            self.codes[path, name] = encode(
                last, w, self.hessians.get(path), seed=self.seed, threads=self.threads
            )
            self._entered()
        return self.codes[path, name]

    def decoded(self, plan: Mapping[str, str]) -> dict[str, np.ndarray]:
        """The weights that a plan (path → name) leads to, where they differ from the model's own."""
        return {path: self._decoded(path, name) for path, name in plan.items() if name != EXACT}

    def _decoded(self, path: str, name: str) -> np.ndarray:
        key = (path, name)
        if key not in self.remembered:
            w = decode(name, self.code(path, name), self.weight(path).shape)
            if sum(kept.nbytes for kept in self.remembered.values()) + w.nbytes > REMEMBERED:
                return w
            self.remembered[key] = w
        return self.remembered[key]

    def bytes(self, plan: Mapping[str, str]) -> int:
        """Of all codes of a plan."""
        return sum(len(self.code(path, name)) for path, name in plan.items())

    def error(self, path: str, name: str) -> float:
        """Squared error of the layer's output, a token, that a code causes."""
        if name == EXACT:
            return 0.0
        return weighted_error(self.weight(path), self._decoded(path, name), self.hessians.get(path))

    def measure(self, candidates: Sequence[str], sample: int, progress: Progress) -> None:
        """Bytes and error of each candidate that may be of use, on every tensor or on `sample` weights of it."""
        tried = {path: worth_trying(candidates, self.weight(path)) for path in self.modules}
        progress.start("measure codes", sum(map(len, tried.values())))
        for path, names in tried.items():
            w, hessian = self.weight(path), self.hessians.get(path)
            points = self.points.setdefault(path, {})
            for name in names:
                if name not in points:
                    points[name], code = measure(
                        name, w, hessian, seed=self.seed, threads=self.threads, sample=sample
                    )
                    if code is not None:
                        self.codes[path, name] = code
                    self._entered()
                progress.step()

    def learnt(self, path: str, sensitivity: float) -> None:
        """The harm of a unit of this tensor's error was measured."""
        self.sensitivity[path] = sensitivity
        self._entered()

    def _entered(self) -> None:
        """Something was found out; write it down where a checkpoint is due, and stop behind it if that was asked."""
        self.entries += 1
        if self.checkpoints.due():
            points = {
                path: {name: [point.bytes, point.error] for name, point in found.items()}
                for path, found in self.points.items()
            }
            codes = {
                f"{path}|{name}": torch.frombuffer(bytearray(code), dtype=torch.uint8)
                for (path, name), code in self.codes.items()
            }
            self.checkpoints.save(self.entries, codes, {"points": points, "sensitivity": self.sensitivity})
            self.checkpoints.stop_if_asked()
