"""Files that are whole or not there, also behind a power loss: written and synced beside their place, then renamed."""

from __future__ import annotations

import os
from pathlib import Path


def write_atomically(path: Path, data: bytes | str) -> None:
    """Write a file so that a reader, a kill or a power loss never leaves half of it; missing folders are made.

    Two writers may race: each writes its own draft, and the last rename wins.

    :param data: text is written as UTF-8.
    :raises OSError: as open(2), write(2) and rename(2) do; no draft stays behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}.partial")
    try:
        with draft.open("wb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
