"""Chunks of what a process tells, as they lie in the store of its run and go to the API.

    <run root>/events/<task>/<process>/<number>.jsonl.gz      numbers count from 1

Each line is {n, time, kind, attempt, data}. `n` counts from 1 without a gap in what one process tells, whatever the chunk:
whoever gets a line twice, or by two ways, knows it by (producer, n).

========  ====================================================================================================
kind      data
========  ====================================================================================================
progress  stage, step, total, eta
metric    values, stage, step
log       lines; `source: runner` where they speak of the telling itself
error     what, where, why, fix, exit_code
state     state (running, succeeded, failed, interrupted), phase, step, pod, host, started, and at the end finished,
          exit_code, seconds, cpu_seconds, peak_memory_bytes
========  ====================================================================================================
"""

from __future__ import annotations

import gzip
import io
import json
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

FOLDER = "events"

LARGEST = 8 << 20
"""Bytes that a chunk may unpack to: what is more is no chunk of ours."""


@dataclass(eq=False)
class Chunk:
    """A batch of lines.

    :param number: of the chunk, in its process.
    :param lines: what it says.
    :param delivered: whether it is anywhere beyond this process.
    """

    number: int
    lines: Sequence[dict[str, Any]]
    delivered: bool = False


class DamagedChunk(ValueError):
    """Bytes that are no chunk, or not all of one."""


def producer(task: str, process: str) -> str:
    """The name under which a process numbers what it tells."""
    return f"pod/{task}/{process}"


def key(task: str, process: str, number: int) -> str:
    """Where a chunk lies below the folder of a run's chunks. The numbers sort as text."""
    return f"{task}/{process}/{number:06d}.jsonl.gz"


def parts(name: str) -> tuple[str, str, int] | None:
    """Task, process and number that a key names; None for a key of something else."""
    match = re.fullmatch(r"(.+)/([^/]+)/(\d{6,9})\.jsonl\.gz", name)
    return (match[1], match[2], int(match[3])) if match else None


def encode(lines: Sequence[dict[str, Any]]) -> bytes:
    """The bytes of a chunk: the same for the same lines."""
    text = "".join(json.dumps(line, ensure_ascii=True, allow_nan=False) + "\n" for line in lines)
    return gzip.compress(text.encode(), compresslevel=6, mtime=0)


def decode(data: bytes) -> list[dict[str, Any]]:
    """The lines of a chunk.

    :raises DamagedChunk: it is cut off, altered, or unpacks to more than a chunk may.
    """
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
            text = file.read(LARGEST + 1)
        if len(text) > LARGEST:
            raise DamagedChunk(f"it unpacks to more than {LARGEST:,} bytes")
        lines = [json.loads(line) for line in text.splitlines()]
    except (OSError, EOFError, zlib.error, ValueError, RecursionError) as error:
        raise DamagedChunk(f"{type(error).__name__}: {error}"[:200]) from error
    if not lines:
        raise DamagedChunk("it is empty")
    for line in lines:
        if not (
            isinstance(line, dict)
            and isinstance(line.get("n"), int)
            and line["n"] >= 1
            and isinstance(line.get("data"), dict)
        ):
            raise DamagedChunk("a line of it has no number, or no data")
    return lines
