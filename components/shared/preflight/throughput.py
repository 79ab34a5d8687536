"""How fast a machine computes: measured by a product of matrices on its CPU, known by name of a GPU, or as it is told."""

from __future__ import annotations

import shutil
import subprocess
import time
from dataclasses import dataclass

import numpy as np

from components.shared.runtime import machine

GPUS = {
    "B200": 2250,
    "H200": 989,
    "H100": 989,
    "A100": 312,
    "L40": 181,
    "L4": 121,
    "A10": 125,
    "V100": 112,
    "T4": 65,
}
"""Name → 10¹² operations a second in bfloat16 (V100, T4: float16), dense, as the makers state them."""

GPU_SHARE, CPU_SHARE = 0.3, 0.25
"""The part of the peak that the phases reach: short rows, optimisers and sampling leave the rest."""

SIDE, SECONDS = 96, 0.2
"""Products so small that one core does them: threads that wait for one another would count as work."""


@dataclass(frozen=True)
class Machine:
    """What there is to compute on.

    :param name: for people.
    :param flops: floating-point operations a second that a phase can count on.
    :param memory: bytes of host memory.
    :param gpu: bytes of one GPU; 0: none.
    :param gpus: how many.
    :param disk: bytes that are free for runs.
    """

    name: str
    flops: float
    memory: int
    gpu: int
    gpus: int
    disk: int


def here(folder: str = ".", *, tflops: float | None = None, gpu_memory: float | None = None) -> Machine:
    """This machine, measured; or what is said of another GPU.

    :param folder: on the disk that runs go to.
    :param tflops: that it shall be taken to reach, in 10¹² operations a second.
    :param gpu_memory: GiB of the GPU that is meant.
    """
    found = _gpus()
    name, memory, count = found or ("", 0, 0)
    if gpu_memory is not None:
        name, memory, count = name or "a GPU", int(gpu_memory * 2**30), max(1, count)
    if tflops is not None:
        flops, said = tflops * 1e12, f"{tflops:g} TFLOPS as stated"
    elif memory:
        peak = next((value for known, value in GPUS.items() if known in name), 100)
        flops, said = peak * 1e12 * GPU_SHARE, f"{GPU_SHARE:.0%} of {peak} TFLOPS"
    else:
        measured = product_flops()
        flops, said = measured * CPU_SHARE, f"{CPU_SHARE:.0%} of {measured / 1e9:.0f} GFLOPS measured now"
    what = f"{count} × {name}" if memory else f"{machine.cores():g} CPU cores"
    return Machine(
        f"{what}, {said}", flops, machine.memory().limit, memory, count, shutil.disk_usage(folder).free
    )


def product_flops() -> float:
    """Operations a second of float32 products of square matrices on all cores, were they ours alone.

    Counted is the time that the products had a core, and not the time that passed: what others do meanwhile is no property
    of the machine. The best of those in a fifth of a second.
    """
    left = np.ones((SIDE, SIDE), np.float32)
    best, until = 0.0, time.perf_counter() + SECONDS
    while time.perf_counter() < until or not best:
        began = time.process_time()
        left @ left
        best = max(best, 2 * SIDE**3 / max(time.process_time() - began, 1e-6))
    return best * machine.cores()


def _gpus() -> tuple[str, int, int] | None:
    """Name, bytes and number of the GPUs here, as the driver's own tool says them: no torch is loaded."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    asked = [program, "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    said = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip().splitlines()
    if not said or "," not in said[0]:
        return None
    name, memory = said[0].rsplit(",", 1)
    return name.strip(), int(memory) * 2**20, len(said)
