"""The tensors of one model: each code made once, by several processes at a time, and all of it survives a kill.

Nothing that grows with the model is held in memory: weights, Hessians, codes and decoded weights are files, mapped.
"""

from __future__ import annotations

import shutil
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from components.shared.runtime.checkpoint.checkpoints import Checkpoints
from components.shared.runtime.tracking.progress import Progress

from ..codecs.codec import Chain, Code, CodeFormat, chain_of, presets_of
from ..codecs.encoding import RateDistortion, format_of, scaled, worth_trying
from ..codecs.slabs import LARGEST, join, row_ranges
from .mapped import file_name, tensor_in
from .workers import Job, Workers

DECODED = 3
"""Times the bytes of the model in float32: so many of decoded weights are kept on the disk."""

CHECKPOINT_PART = 1 << 26
"""Bytes of codes that a part of the checkpoint holds, one code more at most: it is read as a whole."""

SHARE = 128
"""One row in so many is looked at, at least, where codes are tried on a sample."""

Key = tuple[str, Code]
"""A tensor's path, and what it is encoded by."""


class Tensors:
    """Codes, their bytes and errors, and sensitivities of a model's tensors.

    weights      path → numpy file, (out, in) float32
    hessians     path → numpy file, (in, in) float32, where the layer's inputs were seen
    importance   path → numpy file, (out,), where it is known what errors in each output weigh
    points       path → preset → its bytes and error, on the tensor or estimated on a sample of it
    sensitivity  path → rise of the KL for a unit of error (sensitivity.py)

    :param folder: of codes and decoded weights; what was in it goes.
    """

    def __init__(
        self,
        weights: Mapping[str, Path],
        hessians: Mapping[str, Path],
        checkpoints: Checkpoints,
        workers: Workers,
        progress: Progress,
        folder: Path,
        *,
        seed: int,
        importance: Mapping[str, Path] | None = None,
    ) -> None:
        self.weights, self.hessians, self.checkpoints = weights, hessians, checkpoints
        self.importance: Mapping[str, Path] = importance or {}
        self.workers, self.progress, self.folder, self.seed = workers, progress, folder, seed
        self.shapes: dict[str, tuple[int, int]] = {path: self.weight(path).shape for path in weights}
        self.points: dict[str, dict[str, RateDistortion]] = {}
        self.sensitivity: dict[str, float] = {}
        self.encoded: dict[Key, RateDistortion] = {}  # whole tensors, whose codes lie in the folder
        self.sampled: dict[Key, RateDistortion] = {}
        self.decoded_files: OrderedDict[Path, int] = OrderedDict()  # → bytes; the last one used last
        self.records = 0
        self.unsaved: list[tuple[str, str, Code]] = []  # table of a part of the checkpoint, path, code
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for part in checkpoints.parts():
            self._restore(part.tensors, part.state)
            self.records = part.step
        if self.records:
            progress.note(f"going on: {self.records:,} codes and sensitivities were measured before")

    def weight(self, path: str) -> np.ndarray:
        """(out, in) float32."""
        return np.asarray(np.load(self.weights[path], mmap_mode="r"))

    def format(self, path: str, code: Code) -> CodeFormat:
        """How the tensor's code is read."""
        return format_of(code, len(row_ranges(*self.shapes[path])))

    def stored_code(self, path: str, code: Code) -> np.ndarray:
        """The bytes of a code, (n,) uint8; a chain's are those of its last preset, of what the others decode to."""
        self.prepare([{path: code}])
        return np.memmap(self._file(path, code), np.uint8, "c")

    def stored_codes(self, plan: Mapping[str, Code]) -> dict[str, tuple[CodeFormat, np.ndarray]]:
        """The bytes of all codes of a plan (path → code), and how each is read."""
        self.prepare([plan])
        return {path: (self.format(path, code), self.stored_code(path, code)) for path, code in plan.items()}

    def bytes(self, plan: Mapping[str, Code]) -> int:
        """Of all codes of a plan."""
        self.prepare([plan])
        return sum(self.encoded[key].bytes for key in plan.items())

    def error(self, path: str, code: Code) -> float:
        """Squared error of the layer's output, a token, that a code causes."""
        self.prepare([{path: code}])
        return self.encoded[path, code].error

    def decoded(self, plan: Mapping[str, Code], dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
        """The weights that a plan leads to; mapped from files."""
        self.prepare([plan])
        return {path: tensor_in(file, dtype) for path, file in self._decode(plan, dtype).items()}

    def prepare(self, plans: Iterable[Mapping[str, Code]]) -> None:
        """Make all codes of these plans that are not there yet, the first codes of chains first."""
        keys = {key for plan in plans for key in plan.items()} - self.encoded.keys()
        for length in range(1, 1 + max((len(presets_of(code)) for _, code in keys), default=0)):
            beginnings = {(path, chain_of(presets_of(code)[:length])) for path, code in keys}
            missing = beginnings - self.encoded.keys()
            self._encode(sorted(missing, key=lambda key: (key[0], str(key[1]))), [], 0, "encode")

    def measure(self, candidates: Sequence[str], sample: int) -> None:
        """Bytes and error of each candidate that may be of use, on every tensor or on `sample` weights of it.

        Of a matrix with many rows a few more: they weigh differently, and a sample must have some of each kind.
        """
        sample = min(sample, LARGEST)
        large = {path for path, shape in self.shapes.items() if shape[0] > self._sampled_rows(path, sample)}
        useful = {path: worth_trying(candidates, self.weight(path)) for path in self.weights}
        keys: list[Key] = [(path, name) for path, names in useful.items() for name in names]
        keys.sort(
            key=lambda key: (str(self.hessians.get(key[0], "")), key[1])
        )  # layers of one input share a factor
        self._encode(
            [key for key in keys if key[0] not in large and key not in self.encoded],
            [key for key in keys if key[0] in large and key not in self.sampled],
            sample,
            "measure codes",
        )
        for path, names in useful.items():
            measured = self.sampled if path in large else self.encoded
            self.points[path] = {name: measured[path, name] for name in names}

    def record_sensitivity(self, path: str, sensitivity: float) -> None:
        """The rise of the KL for a unit of this tensor's error was measured."""
        self.sensitivity[path] = sensitivity
        self._record("sensitivity", path, "")

    def _encode(self, whole: Sequence[Key], samples: Sequence[Key], sample: int, stage: str) -> None:
        """Make codes of whole tensors, slab by slab; measure others on `sample` weights."""
        if not whole and not samples:
            return
        earlier: dict[Code, dict[str, Code]] = {}  # the chain up to the last preset → path → the same
        for path, code in whole:
            if isinstance(code, Chain):
                before = chain_of(code.presets[:-1])
                earlier.setdefault(before, {})[path] = before
        sources = {before: self._decode(plan) for before, plan in earlier.items()}
        self.progress.start(stage, len(whole) + len(samples))
        slab_figures: dict[Key, dict[int, dict[str, Any]]] = {}

        def job(key: Key, rows: tuple[int, int, int], into: Path | None) -> dict[str, Any]:
            path, code = key
            files = {
                "weight": sources[chain_of(code.presets[:-1])][path]
                if isinstance(code, Chain)
                else self.weights[path],
                "hessian": self.hessians.get(path),
                "importance": self.importance.get(path),
                "original": self.weights[path],
                "into": into,
            }
            names = {part: file and str(file) for part, file in files.items()}
            return {
                "work": "encode",
                "preset": presets_of(code)[-1],
                "rows": rows,
                "seed": self.seed,
                **names,
            }

        def jobs() -> Iterator[Job]:
            for key in whole:
                for number, (start, stop) in enumerate(row_ranges(*self.shapes[key[0]])):
                    yield (key, number), job(key, (start, stop, stop - start), self._file(*key, number))
            for key in samples:
                yield (
                    (key, None),
                    job(key, (0, self.shapes[key[0]][0], self._sampled_rows(key[0], sample)), None),
                )

        for (key, number), reply in self.workers.do(jobs(), self._checkpoint):
            path, code = key
            shape = self.shapes[path]
            slabs = len(row_ranges(*shape))
            if number is None:
                share = shape[0] / self._sampled_rows(path, sample)
                self.sampled[key] = scaled(RateDistortion(code, reply["bytes"], reply["error"]), share, slabs)
                self._record("samples", *key)
                self.progress.step()
                continue
            slab_figures.setdefault(key, {})[number] = reply
            if len(slab_figures[key]) == slabs:
                files = [self._file(*key, slab) for slab in range(slabs)]
                stored = join([file.read_bytes() for file in files], shape)
                self._file(*key).write_bytes(stored)
                for file in files:
                    file.unlink()
                figures = slab_figures.pop(key)
                error = sum(figures[slab]["error"] for slab in range(slabs))
                self.encoded[key] = RateDistortion(code, len(stored), error)
                self._record("codes", *key)
                self.progress.step()

    def _decode(self, plan: Mapping[str, Code], dtype: torch.dtype = torch.float32) -> dict[str, Path]:
        """Numpy files of what codes decode to. The files that were used longest ago go when there are too many."""
        kind = str(dtype).removeprefix("torch.")
        files = {path: self._file(path, code, kind) for path, code in plan.items()}
        missing = [path for path, file in files.items() if file not in self.decoded_files]
        jobs = [
            (
                path,
                {
                    "work": "decode",
                    "spec": self.format(path, plan[path]).spec(),
                    "code": str(self._file(path, plan[path])),
                    "shape": self.shapes[path],
                    "dtype": kind,
                    "into": str(files[path]),
                },
            )
            for path in missing
        ]
        for path, _ in self.workers.do(jobs, self._checkpoint):
            self.decoded_files[files[path]] = files[path].stat().st_size
        for file in files.values():
            self.decoded_files.move_to_end(file)
        room = DECODED * sum(4 * rows * columns for rows, columns in self.shapes.values())
        while (
            sum(self.decoded_files.values()) > room and next(iter(self.decoded_files)) not in files.values()
        ):
            self.decoded_files.popitem(last=False)[0].unlink()
        return files

    def _sampled_rows(self, path: str, sample: int) -> int:
        """Of a tensor, of which `sample` weights are to be looked at."""
        rows, columns = self.shapes[path]
        return max(min(max(sample // columns, rows // SHARE), LARGEST // columns), 1)

    def _file(self, *parts: object) -> Path:
        return self.folder / file_name(*parts)

    def _record(self, table: str, path: str, code: Code) -> None:
        """Something was measured; write it down where a part of the checkpoint is due."""
        self.records += 1
        self.unsaved.append((table, path, code))
        self._checkpoint()

    def _checkpoint(self) -> None:
        """Write down what is new where that is due, or much, and stop behind it if that was asked."""
        size = sum(self.encoded[path, code].bytes for table, path, code in self.unsaved if table == "codes")
        if not self.checkpoints.due() and size < CHECKPOINT_PART:
            return
        if self.unsaved:
            state: dict[str, Any] = {"codes": [], "samples": [], "sensitivity": {}}
            tensors = {}
            for table, path, code in self.unsaved:
                if table == "sensitivity":
                    state[table][path] = self.sensitivity[path]
                    continue
                point = (self.encoded if table == "codes" else self.sampled)[path, code]
                state[table].append([path, list(presets_of(code)), point.bytes, point.error])
                if table == "codes":
                    tensors[f"{path}|{code}"] = torch.from_numpy(self.stored_code(path, code))
            self.checkpoints.append(self.records, tensors, state)
            self.unsaved = []
        self.checkpoints.stop_if_asked()

    def _restore(self, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Take in what a part of the checkpoint holds."""
        self.sensitivity |= state["sensitivity"]
        for table, measured in (("codes", self.encoded), ("samples", self.sampled)):
            for path, presets, size, error in state[table]:
                code = chain_of(tuple(presets))
                measured[path, code] = RateDistortion(code, size, error)
                if table == "codes":
                    self._file(path, code).write_bytes(tensors[f"{path}|{code}"].numpy().tobytes())
