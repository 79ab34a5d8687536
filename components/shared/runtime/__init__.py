"""How a phase runs: configuration, artifacts, stores, checkpoints, progress, tracking and gates."""

import gc
import math
import os

from . import machine, malloc

# How long OpenMP's threads spin before they sleep. By default so long that two phases on two cores are ten times slower;
# not at all, and generating token by token takes twice as long. Read when torch is loaded, so it has to be set before.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

# A team of as many threads as were asked for, always: dynamic teams shrink with the load of the machine, and the last bits
# of sums change with them. The same seed would give another digest beside other work.
os.environ["OMP_DYNAMIC"] = "false"

# A quota is nothing that libraries look at when they count cores: with two cores of 64, each would start 64 threads.
# What a phase computes with is its own setting, and stands above this.
if machine.cores() < (os.cpu_count() or 1):
    os.environ.setdefault("OMP_NUM_THREADS", str(math.ceil(machine.cores())))

# glibc gives freed blocks above 128 KiB back to the system, and every tensor of the next step faults its pages in
# again: a tenth of a small network's time. Blocks up to 32 MiB stay with the process, 256 MiB at most.
malloc.set_mmap_threshold(32 << 20)
malloc.set_trim_threshold(256 << 20)

# torch, transformers and numba make half a million objects when they are imported, all of them to stay; looking them
# through after every 700 costs a seventh of the CPU time of that.
gc.set_threshold(10_000)
