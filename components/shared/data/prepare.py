"""From a source to shards: read, compared, cleaned, tokenised once. What is prepared once is found again by its key.

The source is read once. Which documents are duplicates is known when all of them have their fingerprints; until then
they lie compressed on disk, so that none has to be in memory. Then those that stay are tokenised and written. The same
documents give the same shards, byte for byte, so that a preparation that was killed is begun anew and ends the same.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from components.shared.runtime.artifact.manifest import digest_of
from components.shared.runtime.errors import InputError

from .blocks import Block
from .contamination import Contamination
from .duplicates import Signatures
from .shards import SHARD, ShardWriter
from .sources import Source
from .spool import Spool
from .tokens import DocumentEncoder
from .words import words_of

T = TypeVar("T")
FORMAT = 1
BLOCK = 2 << 20
"""Bytes of text that are worked on at a time."""
THRESHOLD = 0.8
"""Share of 5-grams in common from which two documents are duplicates (Lee et al., arXiv 2107.06499)."""


class Facts(NamedTuple):
    """What was prepared, as corpus.json says it and the lineage keeps it.

    :param source: address or name.
    :param source_digest: SHA-256 over all documents that were read.
    :param tokenizer: digest of the tokenizer.
    :param items: digest of the evaluation items that the corpus was cleaned of; `item_count` of them.
    :param read: documents that the source has; `duplicates` and `contaminated` of these were left out.
    :param digest: over the shards.
    """

    format: int
    source: str
    source_digest: str
    tokenizer: str
    items: str
    dtype: str
    shard: int
    bytes: int
    read: int
    duplicates: int
    contaminated: int
    documents: int
    tokens: int
    digest: str
    files: dict


class Seconds(dict[str, float]):
    """CPU seconds of this process by what they were spent on."""

    @contextmanager
    def of(self, name: str) -> Iterator[None]:
        """Count what the block takes."""
        began = time.process_time()
        try:
            yield
        finally:
            self[name] = self.get(name, 0.0) + time.process_time() - began


def prepare(
    source: Source,
    encoder: DocumentEncoder,
    contamination: Contamination,
    folder: Path,
    *,
    threshold: float = THRESHOLD,
    shard: int = SHARD,
    seconds: Seconds | None = None,
) -> Facts:
    """Write the shards of a source.

    :param folder: empty; gets the shards.
    :param contamination: what no document may hold.
    :param threshold: share of 5-grams in common from which two documents are duplicates; above 1 keeps them all.
    :param seconds: is told what the time went to: read, fingerprint, spool, tokenise, write.
    :raises InputError: the source has no documents, or all of them were left out.
    """
    seconds = Seconds() if seconds is None else seconds
    with tempfile.TemporaryDirectory(dir=folder, prefix="scan-") as work:
        spool = Spool(Path(work) / "spool")
        scan = _scan(source, contamination, spool, Path(work), threshold, seconds)
        kept = ~(scan.duplicates | scan.contaminated)
        if not kept.any():
            raise InputError(
                "nothing is left of a corpus",
                where=source.address,
                why=f"of {len(kept)} documents {scan.duplicates.sum()} are duplicates, {scan.contaminated.sum()} hold "
                "evaluation items",
                fix="give it more documents",
            )
        writer, at = ShardWriter(folder, shard), 0
        for block in _timed(spool.drain(), seconds, "spool"):
            with seconds.of("tokenise"):
                ids, lengths = encoder.encode(block.only(kept[at : at + block.documents]))
            at += block.documents
            with seconds.of("write"):
                writer.add(ids, lengths)
        writer.close()
    return Facts(
        FORMAT,
        source.address,
        scan.digest,
        encoder.digest,
        contamination.digest,
        encoder.dtype.str,
        shard,
        scan.bytes,
        len(kept),
        int(scan.duplicates.sum()),
        int((scan.contaminated & ~scan.duplicates).sum()),
        writer.documents,
        writer.tokens,
        digest_of(writer.files),
        writer.files,
    )


class _Scan(NamedTuple):
    """What one reading of all documents has found: (documents,) bool twice, their digest, their bytes."""

    duplicates: np.ndarray
    contaminated: np.ndarray
    digest: str
    bytes: int


def _scan(
    source: Source, contamination: Contamination, spool: Spool, work: Path, threshold: float, seconds: Seconds
) -> _Scan:
    signatures, digest, size = Signatures(work / "signatures"), hashlib.sha256(), 0
    contaminated: list[np.ndarray] = []
    for documents in _timed(_batches(source.documents(work)), seconds, "read"):
        with seconds.of("read"):
            digest.update(_with_lengths(documents))
            block = Block.of(documents)
            size += len(block.text)
        with seconds.of("fingerprint"):
            words = words_of(block)
            signatures.add(words)
            contaminated.append(contamination.found_in(words))
        with seconds.of("spool"):
            spool.add(block)
    if not contaminated:
        raise InputError("a corpus is empty", where=source.address, fix="give it at least one document")
    with seconds.of("fingerprint"):
        duplicates = signatures.duplicates(threshold)
    shutil.rmtree(signatures.folder)
    return _Scan(duplicates, np.concatenate(contaminated), digest.hexdigest(), size)


def _with_lengths(documents: list[bytes]) -> bytes:
    """What the digest of a source is over: each document behind its length."""
    lengths = np.fromiter(map(len, documents), "<i8", len(documents)).tobytes()
    each = (lengths[at : at + 8] for at in range(0, len(lengths), 8))
    return b"".join(chain.from_iterable(zip(each, documents, strict=True)))


def _batches(documents: Iterator[bytes]) -> Iterator[list[bytes]]:
    """Documents in lists of about BLOCK bytes."""
    batch, size = list[bytes](), 0
    for document in documents:
        batch.append(document)
        size += len(document)
        if size >= BLOCK:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _timed(items: Iterator[T], seconds: Seconds, name: str) -> Iterator[T]:
    """The same, and what each takes to come is counted."""
    while True:
        with seconds.of(name):
            item = next(items, None)
        if item is None:
            return
        yield item
