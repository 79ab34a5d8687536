"""Files that are whole or not there: written beside their place, then moved into it by rename(2)."""

from __future__ import annotations

import os
from pathlib import Path


def write_atomically(path: Path, data: bytes | str) -> None:
    """Write a file so that a reader, or a kill, never meets half of it; missing folders are made.

    Two writers may race: each writes its own draft, and the last rename wins.

    :param data: text is written as UTF-8.
    :raises OSError: as open(2), write(2) and rename(2) do; no draft stays behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}.partial")
    try:
        draft.write_bytes(data.encode() if isinstance(data, str) else data)
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
