"""How far is the error of a layer's output from what any code must make of it, when inputs are uneven or correlated?

    OMP_NUM_THREADS=1 python tests/performance/compression/waterfilling_gap.py \
        [--rows 1024] [--peer-python PYTHON with ggml-python]

Normal weights, 1024 × 512, under four Hessians: white inputs; a hundredth of the inputs twenty times as loud as the others;
each input like the next (correlation .95 to the power of the distance); a spectrum that falls. Of every code its bits a
weight, everything counted, and its gap: decibels of tr(ΔHΔᵀ) above the least that any code can reach at so many bits, which
is reverse waterfilling over the eigenvalues of H (Cover and Thomas, theorem 10.3.3). HQQ and NF4 are those of rd_gap.py,
which do not look at inputs; ggml's types have the diagonal of H as their importance matrix. About a minute.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from rd_gap import hqq, nf4

from components.compression.codecs.encoding import decode_preset, encode
from components.compression.coding.hessian import weighted_error

COLUMNS = 512
OURS = (
    *(
        "ectcq 4",
        "ectcq 3",
        "ectcq 2",
        "ectcq 1.585",
        "ectcq 1",
        "hadamard ectcq 2",
        "trellis 2",
        "trellis 2",
    ),
    *("vptq 2", "uniform 1/2", "uniform 1", "int4", "seedlm 4"),
)
TYPES = ("Q6_K", "Q4_K", "IQ4_XS", "IQ3_XXS", "Q2_K", "IQ2_XXS")


def hessians() -> dict[str, np.ndarray]:
    rng, place = np.random.default_rng(0), np.arange(COLUMNS)
    x = rng.normal(size=(8192, COLUMNS))
    x = x @ (rng.normal(size=(COLUMNS, COLUMNS)) * np.linspace(0.1, 1, COLUMNS) ** 2)
    return {
        "white": np.eye(COLUMNS),
        "loud inputs": np.diag(np.where(rng.permutation(COLUMNS) < COLUMNS // 100, 400.0, 1.0)),
        "like the next": 0.95 ** np.abs(np.subtract.outer(place, place)).astype(float),
        "falling spectrum": x.T @ x / len(x),
    }


def least(power: np.ndarray, rate: float) -> float:
    """The least output error, a row, of weights of variance 1 at `rate` bits each, `power` being H's eigenvalues."""
    low, high = 1e-12 * power.max(), power.max()
    for _ in range(100):
        level = np.sqrt(low * high)
        needs = np.maximum(np.log2(np.maximum(power, level) / level) / 2, 0).mean()
        low, high = (level, high) if needs > rate else (low, level)
    return float(np.minimum(power, level).sum())


def ggml(
    w: np.ndarray, given: dict[str, np.ndarray], python: str
) -> Iterator[tuple[str, float, list[np.ndarray]]]:
    """Type → bits and, for every Hessian, the decoded weights."""
    script = Path(__file__).with_name("ggml_model.py")
    with tempfile.TemporaryDirectory() as folder:
        there, back = Path(folder, "there.npz"), Path(folder, "back.npz")
        importance = {f"{kind} importance": h.diagonal().astype(np.float32) for kind, h in given.items()}
        np.savez(there, **dict.fromkeys(given, w), **importance)
        for kind in TYPES:
            command = [python, str(script), "round-trip", kind, str(there), str(back)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            with np.load(back) as decoded:
                bits = 8 * json.loads(done.stdout)["bytes"] / w.size / len(given)
                yield f"ggml {kind}", bits, [decoded[name] for name in given]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--peer-python", help="a Python with ggml-python in it")
    parser.add_argument("--rows", type=int, default=1024)
    chosen = parser.parse_args()
    w, given = np.random.default_rng(1).normal(size=(chosen.rows, COLUMNS)).astype(np.float32), hessians()
    power = {kind: np.maximum(np.linalg.eigvalsh(h), 1e-12) for kind, h in given.items()}

    def gap(kind: str, bits: float, decoded: np.ndarray) -> str:
        err = weighted_error(w, decoded, given[kind]) / chosen.rows
        return f"  {bits:6.3f} {10 * np.log10(err / least(power[kind], bits)):6.2f}"

    print(f"{'code':22}" + "".join(f"{kind:>16}" for kind in given) + "   (bits, gap in dB)")
    for name in OURS:
        cells = []
        for kind, hessian in given.items():
            code = encode(name, w, hessian, seed=0)
            cells.append(gap(kind, 8 * len(code) / w.size, decode_preset(name, code, w.shape)))
        print(f"{name:22}" + "".join(cells), flush=True)
    for name, (bits, decoded) in {"NF4": nf4(w), "HQQ 2 bits": hqq(w), "HQQ 4 bits": hqq(w, 4)}.items():
        print(f"{name:22}" + "".join(gap(kind, bits, decoded) for kind in given))
    if chosen.peer_python is None:
        print("ggml's types are left out: no --peer-python was given")
        return
    for name, bits, several in ggml(w, given, chosen.peer_python):
        print(f"{name:22}" + "".join(gap(kind, bits, one) for kind, one in zip(given, several, strict=True)))


if __name__ == "__main__":
    main()
