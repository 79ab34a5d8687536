"""How fast is SeedLM's search, how good its codes, and is it still exact? One thread, about a minute.

    OMP_NUM_THREADS=1 python tests/performance/compression/seedlm_search.py [--weights 262144]

Prints rows for each configuration of the paper, plain and with the neighbours of e: weights per second of CPU (compilation
and tables apart), mean squared error on N(0, 1) with its standard error, bits a weight as the paper counts them and as
stored. Then the share of blocks for which rounding every one of the 65,535 seeds finds no smaller error.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from components.compression.codecs import seedlm
from components.shared.models.remote_code.decode_seedlm import cycle


def row(block: int, latent: int, weights: int, beside: int) -> None:
    w = np.random.default_rng(0).normal(size=(weights // block, block))
    began = time.perf_counter()
    seedlm.search(w[:4], latent, 16, beside=beside)
    prepared = time.perf_counter() - began
    began = time.process_time()
    _, _, _, error = seedlm.search(w, latent, 16, beside=beside)
    seconds = time.process_time() - began
    code = seedlm.encode(w.astype(np.float32), block=block, latent=latent, beside=beside)
    nominal, stored = seedlm.bits_per_weight(block, latent, 16), 8 * len(code) / w.size
    share = error / block
    spread = share.std() / np.sqrt(len(share))
    print(
        f"C={block:2} P={latent} K=16 {'e ± 1' if beside else 'plain'}   {w.size / seconds:9,.0f} weights/CPU-s   "
        f"prepared in {prepared:4.1f} s   "
        f"NMSE {share.mean() / (w**2).mean():.5f} ± {spread:.5f}   {nominal:.2f} bits, stored {stored:.3f}"
    )


def exact(block: int, latent: int, blocks: int) -> None:
    w = np.random.default_rng(1).normal(size=(blocks, block))
    states, half = cycle(16).astype(np.float64), 1 << 15
    u = (states - half) / (half - 1)
    u = u[(np.arange(65535)[:, None] + 1 + np.arange(block * latent)) % 65535].reshape(-1, block, latent)
    inverse = np.linalg.pinv(u, rcond=1e-9)
    _, _, _, found = seedlm.search(w, latent, 16)
    same = 0
    for x, fast in zip(w, found, strict=True):
        t = inverse @ x
        middle = np.ceil(np.log2(np.abs(t).max(axis=1) / 7.5))
        least = x @ x
        for step in (-1, 0, 1):
            unit = 2.0 ** np.clip(middle + step, -8, 7)[:, None]
            q = np.clip(np.rint(t / unit), -8, 7) * unit
            least = min(least, ((x - (u @ q[:, :, None])[:, :, 0]) ** 2).sum(axis=1).min())
        same += bool(abs(fast - least) <= 1e-9 * least)
    print(f"C={block:2} P={latent} K=16   {same} of {blocks} blocks as good as an exhaustive search's")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=int, default=1 << 18)
    parser.add_argument("--blocks", type=int, default=100)
    arguments = parser.parse_args()
    for shape in ((8, 3), (12, 4), (16, 3), (24, 4)):
        for beside in (0, 1):
            row(*shape, arguments.weights, beside)
    for shape in ((8, 3), (12, 4)):
        exact(*shape, arguments.blocks)
