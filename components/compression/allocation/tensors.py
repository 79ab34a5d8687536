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

from ..codecs.encoding import Point, codec_of, scaled, worth_trying
from ..codecs.slabs import LARGEST, cut, join
from .mapped import file_name, tensor_in
from .workers import Job, Workers

KEPT = 3
"""Times the bytes of the model in float32: so many of decoded weights are kept on the disk."""

PART = 1 << 26
"""Bytes of codes that a part of the checkpoint holds, one code more at most: it is read as a whole."""

Key = tuple[str, str]
"""A tensor's path and the name of a code."""


class Tensors:
    """Codes, points and sensitivities of a model's tensors.

    weights      path → numpy file, (out, in) float32
    hessians     path → numpy file, (in, in) float32, where the layer's inputs were seen
    points       path → name of a code → its bytes and error, on the tensor or estimated on a sample of it
    sensitivity  path → harm of a unit of error (sensitivity.py)

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
    ) -> None:
        self.weights, self.hessians, self.checkpoints = weights, hessians, checkpoints
        self.workers, self.progress, self.folder, self.seed = workers, progress, folder, seed
        self.shapes: dict[str, tuple[int, int]] = {path: self.weight(path).shape for path in weights}
        self.points: dict[str, dict[str, Point]] = {}
        self.sensitivity: dict[str, float] = {}
        self.whole: dict[Key, Point] = {}  # of the codes that are there
        self.sampled: dict[Key, Point] = {}
        self.kept: OrderedDict[Path, int] = OrderedDict()  # files of decoded weights, the last one used last
        self.entries = 0
        self.unsaved: list[tuple[str, str, str]] = []  # table of a part of the checkpoint, path, name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for part in checkpoints.parts():
            self._take_in(part.tensors, part.state)
            self.entries = part.step
        if self.entries:
            progress.note(f"going on: {self.entries:,} codes and sensitivities were measured before")

    def weight(self, path: str) -> np.ndarray:
        """(out, in) float32."""
        return np.asarray(np.load(self.weights[path], mmap_mode="r"))

    def codec(self, path: str, name: str) -> str:
        """The decoder that reads the tensor's code of this name."""
        return codec_of(name, len(cut(*self.shapes[path])))

    def code(self, path: str, name: str) -> np.ndarray:
        """The tensor's code, uint8; "a+b" is b's code of what a's decodes to."""
        self.prepare([{path: name}])
        return np.memmap(self._file(path, name), np.uint8, "c")

    def coded(self, plan: Mapping[str, str]) -> dict[str, tuple[str, np.ndarray]]:
        """The codes of a plan (path → name), and which decoder reads each."""
        self.prepare([plan])
        return {path: (self.codec(path, name), self.code(path, name)) for path, name in plan.items()}

    def bytes(self, plan: Mapping[str, str]) -> int:
        """Of all codes of a plan."""
        self.prepare([plan])
        return sum(self.whole[key].bytes for key in plan.items())

    def error(self, path: str, name: str) -> float:
        """Squared error of the layer's output, a token, that a code causes."""
        self.prepare([{path: name}])
        return self.whole[path, name].error

    def decoded(self, plan: Mapping[str, str], dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
        """The weights that a plan leads to; mapped from files."""
        self.prepare([plan])
        return {path: tensor_in(file, dtype) for path, file in self._decode(plan, dtype).items()}

    def prepare(self, plans: Iterable[Mapping[str, str]]) -> None:
        """Make all codes of these plans that are not there yet, the first codes of chains first."""
        keys = {key for plan in plans for key in plan.items()} - self.whole.keys()
        for stage in range(1, 1 + max((1 + name.count("+") for _, name in keys), default=0)):
            begun = {(path, "+".join(name.split("+")[:stage])) for path, name in keys}
            self._encode(sorted(begun - self.whole.keys()), [], 0, "encode")

    def measure(self, candidates: Sequence[str], sample: int) -> None:
        """Bytes and error of each candidate that may be of use, on every tensor or on `sample` weights of it."""
        sample = min(sample, LARGEST)
        large = {path for path, (rows, columns) in self.shapes.items() if rows > max(sample // columns, 1)}
        tried = {path: worth_trying(candidates, self.weight(path)) for path in self.weights}
        keys = [(path, name) for path, names in tried.items() for name in names]
        self._encode(
            [key for key in keys if key[0] not in large and key not in self.whole],
            [key for key in keys if key[0] in large and key not in self.sampled],
            sample,
            "measure codes",
        )
        for path, names in tried.items():
            measured = self.sampled if path in large else self.whole
            self.points[path] = {name: measured[path, name] for name in names}

    def learnt(self, path: str, sensitivity: float) -> None:
        """The harm of a unit of this tensor's error was measured."""
        self.sensitivity[path] = sensitivity
        self._entered("sensitivity", path, "")

    def _encode(self, whole: Sequence[Key], samples: Sequence[Key], sample: int, stage: str) -> None:
        """Make codes of whole tensors, slab by slab; measure others on `sample` weights."""
        if not whole and not samples:
            return
        chains: dict[str, dict[str, str]] = {}
        for path, name in whole:
            if before := name.rpartition("+")[0]:
                chains.setdefault(before, {})[path] = before
        sources = {name: self._decode(plan) for name, plan in chains.items()}
        self.progress.start(stage, len(whole) + len(samples))
        pieces: dict[Key, dict[int, dict[str, Any]]] = {}

        def job(key: Key, rows: tuple[int, int, int], into: Path | None) -> dict[str, Any]:
            path, (before, _, last) = key[0], key[1].rpartition("+")
            files = {
                "weight": sources[before][path] if before else self.weights[path],
                "hessian": self.hessians.get(path),
                "original": self.weights[path],
                "into": into,
            }
            named = {part: file and str(file) for part, file in files.items()}
            return {"work": "encode", "name": last, "rows": rows, "seed": self.seed, **named}

        def jobs() -> Iterator[Job]:
            for key in whole:
                for number, (start, stop) in enumerate(cut(*self.shapes[key[0]])):
                    yield (key, number), job(key, (start, stop, stop - start), self._file(*key, number))
            for key in samples:
                rows, columns = self.shapes[key[0]]
                yield (key, None), job(key, (0, rows, max(sample // columns, 1)), None)

        for (key, number), reply in self.workers.do(jobs(), self._look_up):
            path, name = key
            shape = self.shapes[path]
            slabs = len(cut(*shape))
            if number is None:
                share = shape[0] / max(sample // shape[1], 1)
                point = Point(name, reply["bytes"], reply["error"])
                self.sampled[key] = scaled(name, point, share, slabs)
                self._entered("samples", *key)
                self.progress.step()
                continue
            pieces.setdefault(key, {})[number] = reply
            if len(pieces[key]) == slabs:
                files = [self._file(*key, slab) for slab in range(slabs)]
                code = join([file.read_bytes() for file in files], shape)
                self._file(*key).write_bytes(code)
                for file in files:
                    file.unlink()
                done = pieces.pop(key)
                self.whole[key] = Point(name, len(code), sum(done[slab]["error"] for slab in range(slabs)))
                self._entered("codes", *key)
                self.progress.step()

    def _decode(self, plan: Mapping[str, str], dtype: torch.dtype = torch.float32) -> dict[str, Path]:
        """Numpy files of what codes decode to. The files that were used longest ago go when there are too many."""
        kind = str(dtype).removeprefix("torch.")
        files = {path: self._file(path, name, kind) for path, name in plan.items()}
        missing = [path for path, file in files.items() if file not in self.kept]
        jobs = [
            (
                path,
                {
                    "work": "decode",
                    "codec": self.codec(path, plan[path]),
                    "code": str(self._file(path, plan[path])),
                    "shape": self.shapes[path],
                    "dtype": kind,
                    "into": str(files[path]),
                },
            )
            for path in missing
        ]
        for path, _ in self.workers.do(jobs, self._look_up):
            self.kept[files[path]] = files[path].stat().st_size
        for file in files.values():
            self.kept.move_to_end(file)
        room = KEPT * sum(4 * rows * columns for rows, columns in self.shapes.values())
        while sum(self.kept.values()) > room and next(iter(self.kept)) not in files.values():
            self.kept.popitem(last=False)[0].unlink()
        return files

    def _file(self, *parts: object) -> Path:
        return self.folder / file_name(*parts)

    def _entered(self, table: str, path: str, name: str) -> None:
        """Something was found out; write it down where a part of the checkpoint is due."""
        self.entries += 1
        self.unsaved.append((table, path, name))
        self._look_up()

    def _look_up(self) -> None:
        """Write down what is new where that is due, or much, and stop behind it if that was asked."""
        size = sum(self.whole[path, name].bytes for table, path, name in self.unsaved if table == "codes")
        if not self.checkpoints.due() and size < PART:
            return
        if self.unsaved:
            state: dict[str, dict[str, Any]] = {"codes": {}, "samples": {}, "sensitivity": {}}
            codes = {}
            for table, path, name in self.unsaved:
                if table == "sensitivity":
                    state[table][path] = self.sensitivity[path]
                    continue
                point = (self.whole if table == "codes" else self.sampled)[path, name]
                state[table].setdefault(path, {})[name] = [point.bytes, point.error]
                if table == "codes":
                    codes[f"{path}|{name}"] = torch.from_numpy(self.code(path, name))
            self.checkpoints.append(self.entries, codes, state)
            self.unsaved = []
        self.checkpoints.stop_if_asked()

    def _take_in(self, codes: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """What a part of the checkpoint holds."""
        self.sensitivity |= state["sensitivity"]
        for table, measured in (("codes", self.whole), ("samples", self.sampled)):
            for path, points in state[table].items():
                for name, figures in points.items():
                    measured[path, name] = Point(name, *figures)
                    if table == "codes":
                        self._file(path, name).write_bytes(codes[f"{path}|{name}"].numpy().tobytes())
