"""The documents in a file: parquet, jsonl, Arrow, text. Read as a stream, never as a whole.

    .parquet            a column of strings
    .jsonl, .json       one object a line, with a field of that name
    .arrow              as `datasets` saves to disk
    .txt, .text, .md    documents parted by empty lines

Each but parquet and Arrow also as .gz. A document of more than a MiB is cut at white space, and its pieces are
documents.
"""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, cast

import pyarrow as pa
import pyarrow.parquet as pq

from components.shared.runtime.errors import InputError

LONGEST = 1 << 20
"""Bytes of a document."""
BATCH = 256  # rows of a parquet file at a time
SIZE = 1 << 20  # of a block of text


def documents_in(path: Path, name: str, column: str) -> Iterator[bytes]:
    """The documents of a file, in their order, as UTF-8 without white space around them; empty ones are left out.

    :param name: what the file is called in errors, and whose ending says what it is.
    :param column: the column or field that holds the text.
    :raises InputError: the file is none of these formats, is damaged, or a row has no such text; with its number.
    """
    ending = _ending(name)
    try:
        for document in _READERS[ending.removesuffix(".gz")](path, name, column):
            yield from pieces(document.strip())
    except (pa.ArrowException, OSError, EOFError, UnicodeDecodeError) as error:
        raise InputError(
            "a file of a corpus cannot be read",
            where=name,
            why=str(error),
            fix="fetch it again, or leave it out",
        ) from error


def is_known(name: str) -> bool:
    """Whether a file of this name holds documents."""
    return _ending(name).removesuffix(".gz") in _READERS


def pieces(document: bytes) -> Iterator[bytes]:
    """A document in pieces of at most LONGEST bytes; nothing of an empty one."""
    while len(document) > LONGEST:
        cut = max(document.rfind(space, 1, LONGEST) for space in (b" ", b"\n"))
        if cut < 1:  # no white space: at least no letter is cut in two
            cut = LONGEST
            while cut > 1 and document[cut] & 0xC0 == 0x80:
                cut -= 1
        yield document[:cut]
        document = document[cut:].lstrip()
    if document:
        yield document


def text_of(row: Any, column: str, where: str) -> bytes:
    """The text of a row, as UTF-8.

    :raises InputError: it has none.
    """
    text = row.get(column) if isinstance(row, dict) else None
    if isinstance(text, str):
        return text.encode(errors="replace")  # JSON can hold halves of surrogate pairs, UTF-8 cannot
    there = ", ".join(sorted(map(str, row))) if isinstance(row, dict) else type(row).__name__
    raise InputError(
        f"a row has no text in {column!r}",
        where=where,
        why=f"it has {there}",
        fix="name the field that has: corpus:ADDRESS?column=NAME",
    )


def _ending(name: str) -> str:
    return "".join(Path(name).suffixes[-2:] if name.endswith(".gz") else Path(name).suffixes[-1:]).lower()


def _columns(schema: Any, column: str, name: str) -> list[str]:
    if column not in schema.names:
        raise InputError(
            f"a file has no column {column!r}",
            where=name,
            why=f"it has {', '.join(schema.names)}",
            fix="name the one that has the text: corpus:ADDRESS?column=NAME",
        )
    return [column]


def _values(batch: Any, name: str, row: int) -> Iterator[bytes]:
    """The texts of a record batch's only column."""
    texts = batch.column(0)
    if texts.null_count == 0 and (pa.types.is_string(texts.type) or pa.types.is_large_string(texts.type)):
        texts.validate(full=True)  # that it is UTF-8
        yield from texts.cast(pa.large_binary()).to_pylist()
        return
    for at, value in enumerate(texts.to_pylist(), row):
        yield text_of({batch.schema.names[0]: value}, batch.schema.names[0], f"{name}, row {at}")


def _parquet(path: Path, name: str, column: str) -> Iterator[bytes]:
    with pq.ParquetFile(path, memory_map=False, pre_buffer=False) as file:
        row = 1
        for batch in file.iter_batches(BATCH, columns=_columns(file.schema_arrow, column, name)):
            yield from _values(batch, name, row)
            row += len(batch)


def _arrow(path: Path, name: str, column: str) -> Iterator[bytes]:
    with pa.memory_map(str(path)) as source, pa.ipc.open_stream(source) as stream:
        _columns(stream.schema, column, name)
        row = 1
        for batch in stream:
            yield from _values(batch.select([column]), name, row)
            row += len(batch)


def _lines(path: Path, name: str, column: str) -> Iterator[bytes]:
    with _opened(path, name) as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise InputError(
                    "a row is not JSON",
                    where=f"{name}:{number}",
                    why=str(error),
                    fix="write one object a line",
                ) from error
            yield text_of(row, column, f"{name}:{number}")


def _text(path: Path, name: str, column: str) -> Iterator[bytes]:
    with _opened(path, name) as file:
        held = b""
        while block := file.read(SIZE):
            if block.endswith(b"\r"):
                block += file.read(1)
            *whole, held = (held + block.replace(b"\r\n", b"\n")).split(b"\n\n")
            for document in whole:
                yield _checked(document)
            if len(held) > 2 * LONGEST:  # a file without empty lines is not held in memory
                *whole, held = pieces(held)
                for document in whole:
                    yield _checked(document)
        yield _checked(held)


def _checked(document: bytes) -> bytes:
    document.decode()
    return document


def _opened(path: Path, name: str) -> IO[bytes]:
    if not name.lower().endswith(".gz"):
        return path.open("rb")
    return io.BufferedReader(cast(io.RawIOBase, gzip.open(path)), SIZE)  # which finds lines faster


_READERS: dict[str, Callable[[Path, str, str], Iterator[bytes]]] = {
    ".parquet": _parquet,
    ".arrow": _arrow,
    ".jsonl": _lines,
    ".json": _lines,
    ".txt": _text,
    ".text": _text,
    ".md": _text,
}
