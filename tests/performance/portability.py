"""What each kernel and a whole step of training take on this processor, and on one that has AVX2 and nothing newer.

    python tests/performance/portability.py [--repeats 7]

The slow machine is seen on a fast one: every measurement runs in processes of its own, as they are and with the newer
instruction sets hidden from torch (ATEN_CPU_CAPABILITY), oneDNN (ONEDNN_MAX_CPU_ISA) and numba (NUMBA_CPU_NAME). One
thread, CPU time, the least of the repeats, so that other work on the machine does not matter much. Exits with 1 where the
optimiser's step takes a quarter of the training step or more.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
MASK = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "NUMBA_CPU_NAME": "haswell",
    "NUMBA_CPU_FEATURES": "+avx2,+avx,+fma,+bmi,+bmi2,+f16c,+lzcnt,+popcnt,+sse4.2,+sse4.1,+ssse3,+sse3",
}
SHARE = 0.25
"""Of a training step, the most that the optimiser's part of it may take."""
STEP, OPTIMIZER = "training step, whole ({})", "training step, optimiser's part ({})"
COURSES = ("trunk", "memory", "reasoning")


def training(course: str) -> tuple[Callable[[], object], Callable[[], object]]:
    """A step of the tiny profile's course, and the optimiser's part of it."""
    from components.cognate.course import token_loss
    from components.cognate.settings import Settings
    from components.shared.evaluation.answers import batches
    from components.shared.models.build import build, extend
    from components.shared.models.remote_code.configuration_cognate import CognateConfig
    from components.shared.optim.optimizer import build_optimizer
    from components.shared.runtime.config.compose import compose
    from components.shared.tasks.batches import mixture
    from components.shared.tasks.tokenizer import VOCAB_SIZE, byte_tokenizer
    from components.shared.training.loop import TrainingLoop, token_shares

    settings = compose("cognate", Settings, profile="tiny").settings
    own = getattr(settings, course)
    model = build(CognateConfig(vocab_size=VOCAB_SIZE, **settings.model.model_dump()), seed=0)
    model = extend(model, memory=course == "memory", refinement=course == "reasoning").train()
    optimizer = build_optimizer(model, settings.optimizer, own.lr, settings.weight_decay)
    loop = TrainingLoop(model, {"model": optimizer}, clip=1.0, where=course, fix="")
    items = mixture(own.tasks, own.levels, "train", 0, 0, settings.batch, scratch=own.scratch)
    parts = [batch for _, batch in batches(items, byte_tokenizer(), settings.rows)]
    return (
        lambda: loop.update(
            parts, lambda batch: token_loss(model, batch), rate=0.01, weights=token_shares(parts)
        ),
        optimizer.step,
    )


def kernels() -> Iterator[tuple[str, Callable[[], object]]]:
    """Name → one call of each product that a phase computes on a CPU."""
    import numpy as np
    import torch

    from components.compression.codecs.encoding import encode
    from components.shared.models.remote_code.ternary import quantise_activations, ternarise
    from components.shared.models.ternary.kernels import KERNELS, multiply, pack
    from components.shared.optim.muon import orthogonalize

    generator = torch.Generator().manual_seed(0)
    matrices = torch.randn(12, 128, 128, generator=generator)
    for dtype in (torch.float32, torch.bfloat16):
        name = f"Newton-Schulz, 12 of 128 x 128, {str(dtype).removeprefix('torch.')}"
        yield name, lambda dtype=dtype: orthogonalize(matrices, dtype)
    x, w = torch.randn(1024, 256, generator=generator), torch.randn(1024, 256, generator=generator)
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        a, b = x.to(dtype), w.to(dtype)
        name = f"product 1024 x 256 x 1024, {str(dtype).removeprefix('torch.')}"
        yield name, lambda a=a, b=b: a @ b.T
    q, v = (t.clamp(-1, 1).mul(127).to(torch.int8) for t in (x, w))
    yield "product 1024 x 256 x 1024, int8 (torch._int_mm)", lambda: torch._int_mm(q, v.T)
    yield "ternary weights of training", lambda: ternarise(w)
    yield "int8 activations of training", lambda: quantise_activations(x)
    packed = pack(np.sign(np.round(w.numpy())), 1.0)
    tokens = x.numpy()
    for name, kernel in KERNELS.items():
        yield (
            f"ternary product 1024 x 256 x 1024, {name}",
            lambda kernel=kernel: multiply(packed, tokens, using=kernel),
        )
    weights = np.random.default_rng(0).standard_normal((128, 128)).astype(np.float32)
    for preset in ("ectcq 2", "uniform 2", "trellis 2", "seedlm 3", "vptq 2", "int8"):
        yield f"code {preset}, 128 x 128", lambda preset=preset: encode(preset, weights, None, seed=0)


def measure(repeats: int) -> dict[str, float]:
    """Name → the least CPU-seconds of a call."""
    import torch

    torch.set_num_threads(1)
    figures: dict[str, float] = {}

    def note(name: str, call: Callable[[], object]) -> None:
        call()  # the first one also compiles
        seconds = []
        for _ in range(repeats):
            began = time.process_time()
            call()
            seconds.append(time.process_time() - began)
        figures[name] = min(seconds)

    for course in COURSES:
        step, optimizer = training(course)
        note(STEP.format(course), step)
        note(OPTIMIZER.format(course), optimizer)
    for name, call in kernels():
        note(name, call)
    return figures


def in_a_process(repeats: int, mask: dict[str, str]) -> dict[str, float]:
    """`measure` where `mask` is in the environment; numba's cache apart, which is made for one processor."""
    with tempfile.TemporaryDirectory() as cache:
        environment = os.environ | mask | {"PYTHONPATH": str(ROOT), "NUMBA_CACHE_DIR": cache}
        command = [sys.executable, __file__, "--repeats", str(repeats), "--measure"]
        print(f"measuring, {'AVX2 alone' if mask else 'as it is'} …", file=sys.stderr)
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.measure:
        print(json.dumps(measure(chosen.repeats)))
        return
    here, masked = (in_a_process(chosen.repeats, mask) for mask in ({}, MASK))
    print("| CPU-milliseconds, one thread | this processor | AVX2 alone | times |\n|---|---|---|---|")
    for name in here | masked:
        cells = [f"{1000 * each[name]:.2f}" if name in each else "–" for each in (here, masked)]
        times = f"{masked[name] / here[name]:.1f}" if name in here and name in masked else "–"
        print(f"| {name} | {' | '.join(cells)} | {times} |")
    shares = {course: masked[OPTIMIZER.format(course)] / masked[STEP.format(course)] for course in COURSES}
    print("\noptimiser's share of a step, AVX2 alone:", {k: f"{v:.0%}" for k, v in shares.items()})
    sys.exit(max(shares.values()) >= SHARE)


if __name__ == "__main__":
    main()
