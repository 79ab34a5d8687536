"""A process that encodes and decodes weights, one piece after another, without torch and on one thread.

    python -m components.compression.allocation.worker [FOLDER …]

FOLDERs hold more codecs (codecs/registry.py).

Jobs come as lines of JSON from the standard input, replies go as lines of JSON to the standard output; weights, Hessians
and codes are named by their files and mapped. It ends when its input does, even in the middle of a job: whoever asked is
gone then. workers.py is the other end.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from components.shared.runtime.malloc import set_mmap_threshold

from ..codecs import registry
from ..codecs.codec import CodeFormat
from ..codecs.encoding import decode, decode_preset, encode
from ..codecs.slabs import row_ranges, split
from ..coding.hessian import weighted_error


def encode_rows(
    *,
    preset: str,
    weight: str,
    rows: Sequence[int],
    hessian: str | None,
    original: str,
    into: str | None,
    seed: int,
    importance: str | None = None,
) -> dict[str, Any]:
    """The code of some rows of a weight by a preset, into the file `into`.

    :param weight: numpy file, (out, in) float32; hessian: one of (in, in) float32, or None.
    :param importance: one of (out,), what errors in each row weigh, or None.
    :param rows: the first, the one after the last, and how many of them, evenly spread.
    :param original: numpy file of what the error is measured against.
    :returns: {"bytes": of the code, "error": of the layer's output, squared, a token}.
    """
    h = None if hessian is None else hessian_in(hessian)
    w = some_rows(mapped(weight), *rows)
    weighing = None if importance is None else some_rows(mapped(importance), *rows)
    size = None if weighing is None else max(mean_square(w), 1e-30) / max(mean_square_in(weight), 1e-30)
    code = encode(preset, w, h, seed=seed, importance=None if weighing is None else weighing * size)
    if into is not None:
        Path(into).write_bytes(code)
    decoded = decode_preset(preset, code, w.shape)
    error = weighted_error(some_rows(mapped(original), *rows), decoded, h, weighing)
    return {"bytes": len(code), "error": error}


def decode_whole(
    *, spec: dict[str, Any], code: str, shape: Sequence[int], dtype: str, into: str
) -> dict[str, Any]:
    """The weight of a code, slab after slab, into the new numpy file `into`; bfloat16 as the 16 bits that it has.

    :param spec: how the code is read (CodeFormat.spec).
    """
    stored = np.dtype(np.uint16 if dtype == "bfloat16" else dtype)
    w = np.lib.format.open_memmap(into, "w+", stored, tuple(shape))
    slab_format, slabs = split(CodeFormat(**spec), Path(code).read_bytes())
    ranges = row_ranges(*shape) if len(slabs) > 1 else [(0, len(w))]
    for (start, stop), slab in zip(ranges, slabs, strict=True):
        rows = decode(slab_format, slab, (stop - start, *shape[1:]))
        w[start:stop] = bfloat16(rows) if dtype == "bfloat16" else rows
    return {}


@lru_cache(maxsize=1)
def hessian_in(file: str) -> np.ndarray:
    """The same array for slab after slab, so that what is made of it need not be made again (hessian.py)."""
    return mapped(file)


@lru_cache(maxsize=1)
def mean_square_in(file: str) -> float:
    """Of a whole weight: a code's steps are in units of its own slab, what rows weigh is said of the whole."""
    return mean_square(mapped(file))


def mean_square(w: np.ndarray) -> float:
    """Of a matrix's weights, some rows at a time."""
    step = max((1 << 20) // max(w.shape[1], 1), 1)
    total = sum(float((w[row : row + step].astype(np.float64) ** 2).sum()) for row in range(0, len(w), step))
    return total / max(w.size, 1)


WORK: dict[str, Callable[..., dict[str, Any]]] = {"encode": encode_rows, "decode": decode_whole}


def mapped(file: str) -> np.ndarray:
    """The array in a numpy file, read-only."""
    return np.asarray(np.load(file, mmap_mode="r"))


def some_rows(w: np.ndarray, start: int, stop: int, count: int) -> np.ndarray:
    """`count` rows of w from `start` on and before `stop`, evenly spread."""
    if count == stop - start:
        return w[start:stop]
    return w[np.linspace(start, stop - 1, count).astype(int)]


def bfloat16(w: np.ndarray) -> np.ndarray:
    """float32 → the upper 16 bits, uint16, rounded to the nearest, to the even one of two as near."""
    bits = np.ascontiguousarray(w, np.float32).view(np.uint32)
    return ((bits + (0x7FFF + (bits >> 16 & 1))) >> 16).astype(np.uint16)


def main(folders: Sequence[str]) -> None:
    """Do what comes until nothing can come any more."""
    with contextlib.ExitStack() as extra:
        for folder in folders:
            extra.enter_context(registry.extra_folder(folder))
        serve()


def serve() -> None:
    """Read jobs, do them, write replies."""
    set_mmap_threshold(1 << 20)
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever else prints does not come between
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches whoever asked, and that one decides
    jobs: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()

    def listen() -> None:
        for line in sys.stdin:
            jobs.put(json.loads(line))
        os._exit(0)

    threading.Thread(target=listen, daemon=True).start()
    while True:
        job = jobs.get()
        try:
            reply = WORK[job.pop("work")](**job)
        except Exception as error:  # whatever it was, whoever asked says it
            reply = {"failed": f"{type(error).__name__}: {error}"}
        print(json.dumps(reply), file=replies, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
