"""How far is each code from the rate–distortion bound, and how far are others? One thread, under two minutes.

    OMP_NUM_THREADS=1 python tests/performance/compression/rd_gap.py \
        [--peer-python PYTHON] [--plot FILE.svg] [--only PART ...]

A row for each entry of components/compression/codecs/registry.py and each peer, on three matrices: N(0, 1); Student's t
with 4 degrees of freedom; N(0, 1) with a hundredth of its columns ten times as large. Bits a weight with everything counted
(codebooks, scales, tables, headers), mean squared error relative to the variance, the gap 10·log10(D) + 6.0206·R in
decibels (0: the bound for normal weights of that variance; below it only where weights are not normal), and weights a CPU
second. Peers: ggml's types by ggml-python under --peer-python (ggml_peer.py); HQQ and NF4 written here from their papers,
Lloyd and Max's optimal levels, and ECSQ, the uniform quantiser with an ideal entropy coder.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from components.compression.codecs import trellis
from components.compression.codecs.encoding import decode_preset, encode
from components.compression.codecs.registry import presets

KINDS = ("normal", "student", "outliers")
NF4 = [-1.0, -0.6961928, -0.5250731, -0.3949175, -0.2844414, -0.1847734, -0.0910500, 0.0,
       0.0795803, 0.1609302, 0.2461123, 0.3379152, 0.4407098, 0.5626170, 0.7229568, 1.0]  # fmt: skip


class Result(NamedTuple):
    """On one matrix: bits a weight, relative squared error, weights encoded and decoded a CPU second."""

    bits: float
    error: float
    encoded: float
    decoded: float = np.nan

    @property
    def gap(self) -> float:
        return float(10 * np.log10(self.error) + 6.0206 * self.bits)


def matrix(kind: str, rows: int, columns: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    w = rng.standard_t(4, (rows, columns)) if kind == "student" else rng.normal(size=(rows, columns))
    if kind == "outliers":
        w[:, rng.choice(columns, max(columns // 100, 1), replace=False)] *= 10
    return w.astype(np.float32)


def error(w: np.ndarray, decoded: np.ndarray) -> float:
    return float(((decoded - w).astype(np.float64) ** 2).mean() / (w.astype(np.float64) ** 2).mean())


def ours(name: str, w: np.ndarray) -> Result:
    encode(name, w[:8, :64], None, seed=0)  # compiled, tables made
    began = time.process_time()
    code = encode(name, w, None, seed=0)
    encoded = time.process_time()
    decoded = decode_preset(name, code, w.shape)
    done = time.process_time()
    return Result(
        8 * len(code) / w.size,
        error(w, decoded),
        w.size / (encoded - began),
        w.size / max(done - encoded, 1e-9),
    )


def ggml(matrices: dict[str, np.ndarray], python: str) -> tuple[str, dict[str, dict[str, Result]]]:
    """ggml-python's version, and each of its types on the matrices."""
    table: dict[str, dict[str, Result]] = {}
    with tempfile.TemporaryDirectory() as folder:
        given, found = Path(folder, "given.npz"), Path(folder, "decoded.npz")
        np.savez(given, **matrices)  # type: ignore[arg-type]
        subprocess.run([python, str(Path(__file__).with_name("ggml_peer.py")), given, found], check=True)
        with np.load(found) as decoded:
            facts = json.loads(str(decoded["facts"]))
            version = facts.pop("version")
            for key, (size, seconds, back) in facts.items():
                kind, name = key.split()
                w = matrices[kind]
                table.setdefault(f"ggml {name}", {})[kind] = Result(
                    8 * size / w.size, error(w, decoded[key]), w.size / seconds, w.size / max(back, 1e-9)
                )
    return version, table


def nf4(w: np.ndarray) -> tuple[float, np.ndarray]:
    """QLoRA (arXiv 2305.14314): 16 normal quantiles times the largest of each 64, float32. → bits, decoded."""
    blocks = w.reshape(-1, 64)
    scale = np.abs(blocks).max(axis=1, keepdims=True)
    levels = np.array(NF4, np.float32)
    index = np.searchsorted((levels[1:] + levels[:-1]) / 2, blocks / scale)
    return 4 + 32 / 64, (levels[index] * scale).reshape(w.shape)


def hqq(w: np.ndarray, bits: int = 2, group: int = 64) -> tuple[float, np.ndarray]:
    """HQQ (Badri and Shaji, 2023): zero points by a half-quadratic solver for an l0.7 norm; p, β, κ and 20 rounds as
    published; scale and zero in float16. → bits, decoded."""
    blocks = w.reshape(-1, group).astype(np.float64)
    low, high = blocks.min(axis=1, keepdims=True), blocks.max(axis=1, keepdims=True)
    scale = (2**bits - 1) / (high - low)
    zero, beta, best = -low * scale, 10.0, np.inf
    kept = zero
    for _ in range(20):
        q = np.clip(np.rint(blocks * scale + zero), 0, 2**bits - 1)
        wrong = blocks - (q - zero) / scale
        if (now := np.abs(wrong).mean()) >= best:
            break
        best, kept = now, zero
        size = np.abs(wrong) + 1e-12
        sparse = np.sign(wrong) * np.maximum(size - size ** (0.7 - 1) / beta, 0)
        zero = (q - (blocks - sparse) * scale).mean(axis=1, keepdims=True)
        beta *= 1.01
    zero, step = kept.astype(np.float16).astype(np.float64), (1 / scale).astype(np.float16).astype(np.float64)
    q = np.clip(np.rint(blocks / step + zero), 0, 2**bits - 1)
    return bits + 32 / group, ((q - zero) * step).reshape(w.shape)


def lloyd_max(w: np.ndarray, levels: int) -> tuple[float, np.ndarray]:
    """Lloyd 1957, Max 1960: the best levels for these weights, at log2(levels) bits. → bits, decoded."""
    flat = np.sort(w.reshape(-1).astype(np.float64))
    centres = np.quantile(flat, (np.arange(levels) + 0.5) / levels)
    total = np.concatenate([[0.0], np.cumsum(flat)])
    for _ in range(300):
        cuts = np.searchsorted(flat, (centres[1:] + centres[:-1]) / 2)
        edge = np.concatenate([[0], cuts, [flat.size]])
        centres = np.diff(total[edge]) / np.maximum(np.diff(edge), 1)
    index = np.searchsorted((centres[1:] + centres[:-1]) / 2, w)
    return float(np.log2(levels)), centres[index]


def one_mad(w: np.ndarray, memory: int = 12, run: int = 256) -> tuple[float, np.ndarray]:
    """QTIP (arXiv 2406.11235) with its code 1MAD, 2 bits, tail-biting runs of 256. → bits, decoded."""
    x = (np.arange(1 << memory, dtype=np.int64) * 34038481 + 76625530) % (1 << 32)
    total = (x[:, None] >> np.array([0, 8, 16, 24]) & 255).sum(axis=1) - 510
    code = (total / np.sqrt((total**2).mean())).astype(np.float32)
    viterbi, scale = trellis.viterbi(2), np.float32(w.std())
    runs = w.reshape(-1, run) / scale
    decoded = np.empty_like(runs)
    turned, path = np.empty(run, np.int64), np.empty(run, np.int64)
    for i, one in enumerate(runs):
        viterbi(np.roll(one, run // 2), code, -1, turned)
        viterbi(one, code, turned[run // 2 - 1] & ((1 << memory - 2) - 1), path)
        decoded[i] = code[path]
    return 2.0, decoded.reshape(w.shape) * scale


def ecsq(w: np.ndarray, step: float) -> tuple[float, np.ndarray]:
    """Gish and Pierce 1968: equal steps, at the entropy of what they give. → bits, decoded."""
    q = np.rint(w / (step * w.std())).astype(np.int64)
    share = np.unique(q, return_counts=True)[1] / w.size
    return float(-(share * np.log2(share)).sum()), q * step * w.std()


WRITTEN: dict[str, Callable[[np.ndarray], tuple[float, np.ndarray]]] = {
    "NF4, blocks of 64": nf4,
    "HQQ 2 bits, groups of 64": hqq,
    "HQQ 4 bits, groups of 64": lambda w: hqq(w, 4),
    "Lloyd–Max, 3 levels": lambda w: lloyd_max(w, 3),
    "Lloyd–Max, 4 levels": lambda w: lloyd_max(w, 4),
    "Lloyd–Max, 8 levels": lambda w: lloyd_max(w, 8),
    "Lloyd–Max, 16 levels": lambda w: lloyd_max(w, 16),
    "QTIP 1MAD, L=12": one_mad,
    "ideal ECSQ, step 1": lambda w: ecsq(w, 1.0),
    "ideal ECSQ, step 1/2": lambda w: ecsq(w, 0.5),
    "ideal ECSQ, step 1/4": lambda w: ecsq(w, 0.25),
}


def written(name: str, w: np.ndarray) -> Result:
    began = time.process_time()
    bits, decoded = WRITTEN[name](w)
    return Result(bits, error(w, decoded), w.size / (time.process_time() - began))


def line(name: str, results: dict[str, Result]) -> str:
    first = results["normal"]
    rest = "".join(f"  {results[kind].bits:6.3f} {results[kind].gap:6.2f}" for kind in KINDS[1:])
    speed = f"{first.encoded:12,.0f}" + ("" if np.isnan(first.decoded) else f" {first.decoded:12,.0f}")
    return f"{name:26} {first.bits:6.3f} {first.error:8.5f} {first.gap:6.2f}{rest} {speed}"


def plot(table: dict[str, dict[str, Result]], path: str) -> None:
    """The rate–distortion plane of the normal matrix, and the gap to the bound."""
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    plt.rcParams |= {
        "svg.fonttype": "none",
        "svg.hashsalt": "rd",
        "font.size": 9,
        "font.family": "sans-serif",
    }
    families = {
        "ectcq": ("o-", "#0b6e4f"), "trellis": ("s-", "#2a9d8f"), "uniform": ("^-", "#8ab17d"), "vptq": ("v-", "#457b9d"),
        "seedlm": ("D-", "#7b2cbf"), "hyper": ("P-", "#9d4edd"), "ggml IQ": ("x--", "#e76f51"),
        "ggml Q": ("+--", "#c1121f"),
        "HQQ": ("1--", "#6c757d"), "NF4": ("2", "#6c757d"), "Lloyd": ("3--", "#adb5bd"),
    }  # fmt: skip
    figure, (plane, gaps) = plt.subplots(1, 2, figsize=(11, 4.6), layout="constrained")
    rate = np.array([0.8, 6.2])
    plane.plot(rate, -6.0206 * rate, "k", linewidth=1.5, label="Shannon bound")
    gaps.axhline(0, color="k", linewidth=1.5)
    for start, (style, colour) in families.items():
        points = sorted(
            (found["normal"].bits, 10 * np.log10(found["normal"].error), found["normal"].gap)
            for name, found in table.items()
            if name.startswith(start)
            and found["normal"].bits < 6.2
            and "states" not in name
            and "L=16" not in name
            and "sized" not in name
        )
        if points:
            bits, noise, gap = np.array(points).T
            plane.plot(bits, noise, style, color=colour, markersize=5, linewidth=0.8, label=start)
            gaps.plot(bits, gap, style, color=colour, markersize=5, linewidth=0.8)
    plane.set(xlabel="bits a weight, everything counted", ylabel="error, dB", title="N(0, 1), 512 × 512")
    gaps.set(
        xlabel="bits a weight, everything counted",
        ylabel="dB above the bound",
        title="The same, from the bound",
        ylim=(-0.2, 8),
    )
    plane.legend(ncols=2, frameon=False)
    for axes in (plane, gaps):
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, metadata={"Date": None, "Creator": None})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=512)
    parser.add_argument("--columns", type=int, default=512)
    parser.add_argument("--only", nargs="*", help="rows whose name starts with one of these")
    parser.add_argument("--peer-python", help="a Python with ggml-python in it")
    parser.add_argument("--plot", help="file for the picture")
    arguments = parser.parse_args()
    matrices = {kind: matrix(kind, arguments.rows, arguments.columns) for kind in KINDS}
    wanted = tuple(arguments.only) if arguments.only else ("",)
    print(f"{'':26} normal                  student       outlier columns   weights a CPU second")
    print(
        f"{'code':26} {'bits':>6} {'NMSE':>8} {'gap':>6}"
        + f"  {'bits':>6} {'gap':>6}" * 2
        + f" {'encoded':>12} {'decoded':>12}"
    )
    table: dict[str, dict[str, Result]] = {}
    for names, measure in ((presets(), ours), (WRITTEN, written)):
        for name in names:
            if name.startswith(wanted):
                table[name] = {kind: measure(name, w) for kind, w in matrices.items()}
                print(line(name, table[name]), flush=True)
    if arguments.peer_python:
        version, peers = ggml(matrices, arguments.peer_python)
        print(f"ggml-python {version}")
        for name, results in peers.items():
            print(line(name, results))
        table |= peers
    else:
        print("ggml's types are left out: no --peer-python was given")
    if arguments.plot:
        plot(table, arguments.plot)
