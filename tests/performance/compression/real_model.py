"""A real model under every code, beside what others make of it: perplexity of a text against bits a weight.

    OMP_NUM_THREADS=1 python tests/performance/compression/real_model.py MODEL --test FILE --calibration FILE --work DIR
        [--tokens 16384] [--calibration-tokens 8192] [--row 512] [--only NAME …] [--peer-python PYTHON] [--plot FILE]

MODEL is a folder of Hugging Face's, the texts are UTF-8. Everything that is a matrix is coded, the embedding too, and
counted once where the head shares it; all else counts 16 bits. Bits are those of all codes and all else, over all weights:
tables, scales, headers, codebooks. Arms (--only takes the beginning of names; each is kept in DIR/results.json, so that a
second call goes on from there):

  float32                          the model as it is
  best B                           the phase's allocation at B bits a weight, everything counted
  PRESET                           one of our presets for all tensors
  ggml MIX, ggml MIX imatrix       llama.cpp's mixtures, and one type for all (ggml_mix.py); with and without importance
  nf4                              bitsandbytes, blocks of 64
  hqq N                            HQQ of N bits, groups of 64

Peers are libraries that must be installed. Calibration is the same for all: inputs and gradients of the first tokens of the
calibration text. The test text chooses nothing.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import components.shared.runtime  # noqa: F401  before torch: how OpenMP waits
from components.compression.allocation.allocate import frontier, within
from components.compression.allocation.evaluator import Evaluator, codable
from components.compression.allocation.fisher import calibrate
from components.compression.allocation.mapped import map_weights
from components.compression.allocation.sensitivity import rate_points
from components.compression.allocation.tensors import Tensors
from components.compression.allocation.text import text_rows
from components.compression.allocation.workers import Workers
from components.shared.models.loading import load, wrap
from components.shared.runtime.checkpoint.checkpoints import Checkpoints
from components.shared.runtime.malloc import set_mmap_threshold
from components.shared.runtime.tracking.progress import Progress
from pipelines.cli.models.compression import TEXT_CANDIDATES

SAMPLE = 1 << 13
SIZES = ("3", "2", "1.6", "4")
PRESETS = (
    "ectcq 2, 8 states",
    "trellis 2",
    "ectcq 2",
    "int4",
    "uniform 1",
    "vptq 2",
    "hyper 256",
    "seedlm 2",
    "ectcq 3",
)
MIXES = ("pure Q2_K", "Q2_K", "pure Q3_K", "Q3_K_M", "Q4_K_M", "TQ2_0")
HQQ_BITS = (2, 3, 4)


class Subject:
    """The model, its matrices in files, and what calibration says of them."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        torch.set_num_threads(1)
        set_mmap_threshold(1 << 17)  # as the phase does with a large model
        self.work: Path = arguments.work
        self.work.mkdir(parents=True, exist_ok=True)
        model, tokenizer = load(arguments.model)
        self.model = wrap(model).requires_grad_(False)
        self.evaluator = Evaluator(self.model, tokenizer, 1)
        self.modules = codable(self.model, 2048)
        self.progress = Progress("real model")
        (self.test,) = text_rows(
            tokenizer, arguments.test, arguments.row, [arguments.tokens // arguments.row]
        )
        (self.training,) = text_rows(
            tokenizer, arguments.calibration, arguments.row, [arguments.calibration_tokens // arguments.row]
        )
        self.weights = map_weights(self.modules, self.work / "weights")
        self.count = self.model.num_parameters()
        self.coded = sum(np.load(file, mmap_mode="r").size for file in self.weights.values())
        self.rest = 2 * (self.count - self.coded)
        self.hessians, self.importance, self.sensitivity = self._calibration()

    def _calibration(self) -> tuple[dict[str, Path], dict[str, Path], dict[str, float]]:
        kept = self.work / "calibration.json"
        if not kept.is_file():
            began = time.perf_counter(), time.process_time()
            parts = calibrate(
                self.model, self.modules, self.training, self.work / "hessians", self.progress, seed=0
            )
            seconds = [time.perf_counter() - began[0], time.process_time() - began[1]]
            names = [{path: str(file) for path, file in part.items()} for part in parts[:2]]
            kept.write_text(json.dumps([*names, parts[2], seconds]))
        hessians, importance, sensitivity, seconds = json.loads(kept.read_text())
        print(f"calibrated in {seconds[0]:.0f} s, {seconds[1]:.0f} CPU s", flush=True)
        return *(
            {path: Path(file) for path, file in part.items()} for part in (hessians, importance)
        ), sensitivity

    def bits(self, size: int) -> float:
        """A weight, of codes of `size` bytes and all else at 16 bits."""
        return 8 * (size + self.rest) / self.count

    def measure(self, weights: Mapping[str, Tensor]) -> dict[str, float]:
        """Perplexity and bits per byte of the test text with these weights in place."""
        with self.evaluator.with_weights(weights):
            loss = self.evaluator.loss(self.test)
        return {"perplexity": math.exp(min(loss, 700)), "bits_per_byte": self.test.bits_per_byte(loss)}


def ours(subject: Subject, name: str, workers: Workers) -> dict[str, Any]:
    """`best B` or one preset for all tensors."""
    checkpoints = Checkpoints(str(subject.work / "checkpoints"), "0" * 16, every=30)
    tensors = Tensors(
        subject.weights,
        subject.hessians,
        checkpoints,
        workers,
        subject.progress,
        subject.work / "codes",
        seed=0,
        importance=subject.importance,
    )
    tensors.sensitivity |= subject.sensitivity
    began = time.perf_counter(), _cpu()
    plan: Mapping[str, Any] = dict.fromkeys(subject.modules, name)
    if name.startswith("best "):
        tensors.measure(TEXT_CANDIDATES, SAMPLE)
        allocations = frontier(rate_points(tensors.points, tensors.sensitivity))
        budget = goal = int(float(name.split()[1]) * subject.count / 8) - subject.rest
        while True:  # samples estimate; what is made is counted
            allocation = within(allocations, budget)
            assert allocation is not None, "a size below the smallest codes"
            plan = allocation.presets
            if (size := tensors.bytes(plan)) <= goal:
                break
            budget -= max(size - goal, 1000)
    size = tensors.bytes(plan)
    seconds = {"seconds": time.perf_counter() - began[0], "cpu_seconds": _cpu() - began[1]}
    result = {"bits": subject.bits(size), **seconds, **subject.measure(tensors.decoded(plan))}
    checkpoints_done(tensors)
    counts: dict[str, int] = {}
    for preset in plan.values():
        counts[str(preset)] = counts.get(str(preset), 0) + 1
    embedding = next(path for path in plan if "embed" in path)
    return result | {
        "presets": counts,
        "embedding": 8 * tensors.bytes({embedding: plan[embedding]}) / tensors.weight(embedding).size,
    }


def checkpoints_done(tensors: Tensors) -> None:
    """What is not written down yet."""
    tensors.checkpoints.every = 0
    tensors._checkpoint()


def _cpu() -> float:
    """CPU seconds of this process; those of the processes that encode come with their end, and are left out until then."""
    return time.process_time()


def ggml(subject: Subject, name: str, python: str) -> dict[str, Any]:
    """A mixture of ggml's types."""
    mix, imatrix = name.removeprefix("ggml ").removesuffix(" imatrix"), name.endswith(" imatrix")
    with tempfile.TemporaryDirectory(dir=subject.work) as folder:
        given, importance, out = (Path(folder, part) for part in ("weights", "importance", "out"))
        for part in (given, importance, out):
            part.mkdir()
        for path, file in subject.weights.items():
            (given / f"{path}.npy").symlink_to(file.resolve())
            if path in subject.hessians:
                np.save(
                    importance / f"{path}.npy", np.diag(np.load(subject.hessians[path], mmap_mode="r")).copy()
                )
        script = str(Path(__file__).with_name("ggml_mix.py"))
        command = [python, script, mix, str(given), str(importance) if imatrix else "-", str(out)]
        began = time.perf_counter()
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        seconds = time.perf_counter() - began
        facts = json.loads(done.stdout.splitlines()[-1])
        weights = {
            path: torch.from_numpy(np.load(out / f"{path}.npy", mmap_mode="c")) for path in subject.weights
        }
        return {"bits": subject.bits(facts["bytes"]), "seconds": seconds, **subject.measure(weights)}


def nf4(subject: Subject, name: str) -> dict[str, Any]:
    """bitsandbytes' NF4: blocks of 64, scales in float32."""
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit

    weights, size, began = {}, 0, time.perf_counter()
    for path, file in subject.weights.items():
        w = torch.from_numpy(np.load(file))
        code, state = quantize_4bit(w, blocksize=64, quant_type="nf4")
        size += code.numel() * code.element_size() + 4 * state.absmax.numel()
        weights[path] = dequantize_4bit(code, state).view(w.shape)
    seconds = time.perf_counter() - began
    return {"bits": subject.bits(size), "seconds": seconds, **subject.measure(weights)}


def hqq(subject: Subject, name: str) -> dict[str, Any]:
    """HQQ, groups of 64 of a row, scale and zero point in float16."""
    from hqq.core.quantize import Quantizer

    bits, weights, size, began = int(name.split()[1]), {}, 0, time.perf_counter()
    for path, file in subject.weights.items():
        w = torch.from_numpy(np.load(file))
        code, meta = Quantizer.quantize(
            w, nbits=bits, group_size=64, axis=1, bitpack=False, device="cpu", compute_dtype=torch.float32
        )
        size += w.numel() * bits // 8 + 2 * (meta["scale"].numel() + meta["zero"].numel())
        scale, zero = meta["scale"].half().float(), meta["zero"].half().float()
        weights[path] = ((code.float() - zero) * scale).view(w.shape)
    seconds = time.perf_counter() - began
    return {"bits": subject.bits(size), "seconds": seconds, **subject.measure(weights)}


def run(subject: Subject, name: str, workers: Workers, python: str) -> dict[str, Any]:
    """The figures of one arm."""
    if name == "float32":
        return {"bits": 32.0, **subject.measure({})}
    if name.startswith("ggml "):
        return ggml(subject, name, python)
    if name == "nf4":
        return nf4(subject, name)
    if name.startswith("hqq "):
        return hqq(subject, name)
    return ours(subject, name, workers)


def plot(results: Mapping[str, Mapping[str, float]], file: Path) -> None:
    """Perplexity, logarithmic, against bits a weight."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 5))
    best = sorted(
        (row["bits"], row["perplexity"]) for name, row in results.items() if name.startswith("best ")
    )
    axes.plot(*zip(*best, strict=True), "o-", color="#0b6e4f", label="best allocation") if best else None
    for name, row in results.items():
        if name == "float32":
            axes.axhline(row["perplexity"], color="grey", linewidth=0.8)
        elif not name.startswith("best ") and row["perplexity"] < 1000:
            peer = name.startswith(("ggml", "nf4", "hqq"))
            axes.plot(
                row["bits"], row["perplexity"], "s" if peer else "^", color="#b5542a" if peer else "#457b9d"
            )
            axes.annotate(
                name, (row["bits"], row["perplexity"]), fontsize=6, xytext=(3, 3), textcoords="offset points"
            )
    axes.set(xlabel="bits a weight, everything counted", ylabel="perplexity of the test text", yscale="log")
    axes.legend()
    figure.savefig(file, dpi=110, bbox_inches="tight")


def main() -> None:
    """All arms that are not measured yet, then the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("--test", type=Path, required=True)
    parser.add_argument("--calibration", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--tokens", type=int, default=16384)
    parser.add_argument("--calibration-tokens", type=int, default=8192)
    parser.add_argument("--row", type=int, default=512)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--peer-python", default=sys.executable)
    parser.add_argument("--plot", type=Path)
    arguments = parser.parse_args()
    subject = Subject(arguments)
    kept = arguments.work / "results.json"
    results: dict[str, Any] = json.loads(kept.read_text()) if kept.is_file() else {}
    mixes = [f"ggml {mix}{ending}" for mix in MIXES for ending in (" imatrix", "")]
    arms = [
        "float32",
        *(f"best {size}" for size in SIZES),
        *PRESETS,
        *mixes,
        "nf4",
        *(f"hqq {n}" for n in HQQ_BITS),
    ]
    with Workers(arguments.threads) as workers:
        for name in arms:
            label = f"{name} | {arguments.tokens}"
            if label in results or (arguments.only and not name.startswith(tuple(arguments.only))):
                continue
            row = run(subject, name, workers, arguments.peer_python)
            results = (json.loads(kept.read_text()) if kept.is_file() else {}) | {
                label: row
            }  # others may run too
            kept.write_text(json.dumps(results, indent=1))
            print(label, json.dumps(results[label]), flush=True)
    shown = {
        name.split(" | ")[0]: row for name, row in results.items() if name.endswith(f"| {arguments.tokens}")
    }
    print("\n| code | bits | perplexity | bits a byte |\n|---|---|---|---|")
    for name, row in sorted(shown.items(), key=lambda pair: pair[1]["bits"]):
        print(f"| {name} | {row['bits']:.3f} | {row['perplexity']:.2f} | {row['bits_per_byte']:.4f} |")
    print(
        f"peak resident memory of this process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10} MiB"
    )
    if arguments.plot:
        plot(shown, arguments.plot)


if __name__ == "__main__":
    main()
