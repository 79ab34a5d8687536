"""Documents that were read, on disk until it is known which of them stay: a source is read once.

A file of Arrow's stream format a block, its buffers compressed with LZ4, which packs text to about half in a twentieth
of the time that its tokens take. A file is removed as soon as it is read: what tokens need grows while this shrinks.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from .blocks import Block

SCHEMA = pa.schema([("text", pa.large_binary())])
OPTIONS = pa.ipc.IpcWriteOptions(compression="lz4", use_threads=False)
READ = pa.ipc.IpcReadOptions(use_threads=False)


class Spool:
    """Blocks in their order, in files of a folder.

    :param folder: empty.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.blocks = folder, 0
        folder.mkdir(parents=True)

    def add(self, block: Block) -> None:
        """Keep a block."""
        buffers = [None, pa.py_buffer(block.starts), pa.py_buffer(block.text)]
        column = pa.LargeBinaryArray.from_buffers(pa.large_binary(), block.documents, buffers)
        with (
            pa.OSFile(str(self._file(self.blocks)), "wb") as file,
            pa.ipc.new_stream(file, SCHEMA, options=OPTIONS) as stream,
        ):
            stream.write_batch(pa.record_batch([column], schema=SCHEMA))
        self.blocks += 1

    def drain(self) -> Iterator[Block]:
        """All blocks; each leaves the disk."""
        for number in range(self.blocks):
            path = self._file(number)
            with pa.OSFile(str(path), "rb") as file, pa.ipc.open_stream(file, options=READ) as stream:
                column = stream.read_next_batch().column(0)
            _, starts, text = column.buffers()
            bytes_of_text = np.frombuffer(text, dtype=np.uint8)
            bytes_of_text.flags.writeable = False
            yield Block(bytes_of_text, np.frombuffer(starts, dtype=np.int64, count=len(column) + 1).copy())
            path.unlink()

    def _file(self, number: int) -> Path:
        return self.folder / f"{number:08}.arrow"
