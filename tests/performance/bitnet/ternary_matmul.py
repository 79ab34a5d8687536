"""A ternary matrix times int8 activations: our kernels beside torch, and beside ggml where it is installed.

    OMP_NUM_THREADS=1 python tests/performance/bitnet/ternary_matmul.py [--rows 4096 --columns 4096 --tokens 1,64]
                                                                 [--peer-python PYTHON of an environment with ggml-python]

One thread, wall time, milliseconds, the best of many repetitions, everything from float32 activations to float32 results
counted but for torch's int8, which is the bare integer product (its activations are quantised before). Also the bytes
that the weight takes in memory. To measure what a processor without AVX-512 gets of ours, compile for one:

    NUMBA_CPU_NAME=haswell NUMBA_CPU_FEATURES=+avx2,+avx,+sse4.2,+ssse3,+sse2,+fma,+bmi,+bmi2,+popcnt,+lzcnt python …
"""

from __future__ import annotations

import argparse
import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

import components.shared.runtime  # noqa: F401  before torch: how OpenMP waits
from components.shared.models.remote_code.ternary import quantise_activations
from components.shared.models.ternary import kernels as kernels
from components.shared.models.ternary.tiles import INSTRUCTIONS


def best(run: Callable[[], object], seconds: float = 2.0) -> float:
    """Milliseconds."""
    run()
    found, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        began = time.perf_counter()
        run()
        found = min(found, time.perf_counter() - began)
    return 1000 * found


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, default=4096)
    parser.add_argument("--columns", type=int, default=4096)
    parser.add_argument("--tokens", default="1,64")
    parser.add_argument("--peer-python")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    counts = [int(count) for count in chosen.tokens.split(",")]
    trits = np.random.default_rng(0).integers(-1, 2, (chosen.rows, chosen.columns), dtype=np.int8)
    packed = kernels.pack(trits, 0.02)
    w = torch.from_numpy(trits)
    rows: dict[str, tuple[float, list[float | str]]] = {}

    def timed(name: str, bits: float, run: Callable[[torch.Tensor], object]) -> None:
        torch.manual_seed(0)
        inputs = [torch.randn(count, chosen.columns) for count in counts]
        rows[name] = bits, [best(lambda x=x: run(x)) for x in inputs]

    full, half, transposed = w.float() * 0.02, w.bfloat16() * 0.02, w.t()
    timed("torch float32", 32, lambda x: F.linear(x, full))
    timed("torch float32, int8 activations", 32, lambda x: F.linear(quantise_activations(x), full))
    timed("torch bfloat16", 16, lambda x: F.linear(x.bfloat16(), half).float())
    integers = {
        count: torch.randint(-127, 128, (count, chosen.columns), dtype=torch.int8) for count in counts
    }
    timed("torch._int_mm", 8, lambda x: torch._int_mm(integers[len(x)], transposed))
    for name, kernel in kernels.KERNELS.items():
        timed(f"ours, {name}", 2, lambda x, kernel=kernel: kernels.multiply(packed, x.numpy(), using=kernel))
    if chosen.peer_python:
        peer = Path(__file__).with_name("ggml_model.py")
        command = [
            chosen.peer_python,
            str(peer),
            "matmul",
            str(chosen.rows),
            str(chosen.columns),
            chosen.tokens,
        ]
        found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        for name, bits in (("TQ2_0", 2.0625), ("TQ1_0", 1.6875)):
            label = f"ggml {name} (ggml-python {found['version']})"
            rows[label] = bits, [found[name][str(count)] for count in counts]
    else:
        print("ggml was not measured: no --peer-python")
    for name in INSTRUCTIONS.keys() - kernels.KERNELS.keys():
        print(f"{name} was not measured: this processor has none")
    print(
        f"{f'{chosen.rows} × {chosen.columns}':36} {'MiB':>6} "
        + " ".join(f"{f'M={count}':>9}" for count in counts)
    )
    for name, (bits, times) in rows.items():
        size = bits * chosen.rows * chosen.columns / 8 / 2**20
        print(f"{name:36} {size:6.1f} " + " ".join(f"{each:9.3f}" for each in times))


if __name__ == "__main__":
    main()
