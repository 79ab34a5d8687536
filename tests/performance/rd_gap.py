"""How far is each code of the menu from the rate–distortion bound? One thread, about a minute.

    OMP_NUM_THREADS=1 python tests/performance/rd_gap.py [--rows 1024 --columns 1024] [--weights normal|student]

Prints a row for each entry of components/compression/menu.py on N(0, 1), or on Student's t with 4 degrees of freedom:
bits a weight with everything counted (codebooks, scales, tables, headers), mean squared error relative to the variance,
the gap 10·log10(D) + 6.0206·R in decibels (0 is the Gaussian bound), and weights a CPU second for encoding and decoding.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from components.compression.encoding import decode, encode
from components.compression.menu import MENU

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1024)
    parser.add_argument("--columns", type=int, default=1024)
    parser.add_argument("--weights", choices=("normal", "student"), default="normal")
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    shape = (arguments.rows, arguments.columns)
    w = (rng.normal(size=shape) if arguments.weights == "normal" else rng.standard_t(4, shape)).astype(
        np.float32
    )
    print(f"{'code':14} {'bits':>6} {'NMSE':>9} {'gap dB':>7} {'encoded/s':>12} {'decoded/s':>12}")
    for name in MENU:
        encode(name, w[:8, :64], None, seed=0, threads=1)  # compiled, tables made
        began = time.process_time()
        code = encode(name, w, None, seed=0, threads=1)
        encoded = time.process_time()
        decoded = decode(name, code, w.shape)
        done = time.process_time()
        rate = 8 * len(code) / w.size
        distortion = float(
            ((decoded - w).astype(np.float64) ** 2).mean() / (w.astype(np.float64) ** 2).mean()
        )
        gap = 10 * np.log10(distortion) + 6.0206 * rate
        speeds = f"{w.size / (encoded - began):12,.0f} {w.size / (done - encoded):12,.0f}"
        print(f"{name:14} {rate:6.3f} {distortion:9.5f} {gap:7.2f} {speeds}")
