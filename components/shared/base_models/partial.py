"""A large file of the hub, in pieces that outlive the process which fetches them.

The hub's own client throws a half-fetched file away when its process ends, and begins again: of a 7B model that is
gigabytes a kill. Here the bytes go to `<etag>.partial` beside the cache's blobs; the next process asks for the rest
(Range), and what is complete and has the SHA-256 that the hub has told becomes the blob, where the client finds it. A
lock keeps two processes from writing into the same file.
"""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path
from types import TracebackType
from typing import Any, cast
from urllib.parse import urlsplit

from filelock import FileLock

from components.shared.runtime.errors import StoreError
from components.shared.runtime.tracking.progress import Progress

from .address import Address
from .hub_place import endpoint, repository, token

LARGE = 8 << 20
"""Bytes from which on a file is worth it."""


class _Megabytes:
    """Told of bytes as tqdm is, and tells the phase's progress of whole megabytes.

    :param initial: bytes that are there already.
    """

    def __init__(self, progress: Progress, *, initial: int = 0, **_: Any) -> None:
        self.progress, self.rest = progress, 0
        self.update(initial)

    def __enter__(self) -> _Megabytes:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is held."""

    def update(self, count: int) -> None:
        """`count` more bytes are there; less, where a server began again from the start."""
        self.rest += count
        whole, self.rest = divmod(self.rest, 1 << 20)
        if whole:
            self.progress.step(whole)


def fetch_large(pinned: Address, name: str, sha256: str, progress: Progress) -> None:
    """Fetch a file into the blobs of the hub's cache, from where an earlier try stopped.

    :param sha256: that the hub has told for it; "" where it told none.
    :raises StoreError: what has arrived is not what the hub said; it is removed.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers

    url = hf_hub_url(pinned.place, name, revision=pinned.revision, endpoint=endpoint())
    metadata = get_hf_file_metadata(url, token=token() or False, endpoint=endpoint())
    if metadata.etag is None or metadata.size is None:
        raise StoreError(
            "the hub does not say what the file is", where=url, why="its answer has no ETag or no length",
            fix="set HF_ENDPOINT to a hub, or a mirror, that speaks as the hub does",
        )  # fmt: skip
    headers = build_hf_headers(token=token() or False)
    if urlsplit(metadata.location).netloc != urlsplit(url).netloc:
        headers.pop("authorization", None)  # the store that the hub sends us to gets no token of the hub
    blob = repository(pinned.place) / "blobs" / metadata.etag
    partial = blob.with_name(f"{blob.name}.partial")
    blob.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{partial}.lock"):
        if blob.exists():
            _Megabytes(progress, initial=metadata.size)
            return
        done = partial.stat().st_size if partial.exists() else 0
        if done > metadata.size:
            partial.unlink()
            done = 0
        with partial.open("ab") as file:
            http_get(
                metadata.location, file, resume_size=done, headers=headers, expected_size=metadata.size,
                tqdm_class=cast(Any, functools.partial(_Megabytes, progress)),
            )  # fmt: skip
        _verify(partial, sha256, url)
        partial.replace(blob)


def _verify(partial: Path, sha256: str, url: str) -> None:
    if not sha256:
        return
    with partial.open("rb") as file:
        actual = hashlib.file_digest(file, "sha256").hexdigest()
    if actual != sha256:
        partial.unlink()
        raise StoreError(
            "a file of the hub arrived damaged", where=url, why=f"its SHA-256 is {actual}, and the hub says {sha256}",
            fix="try again: what had arrived is removed", transient=True,
        )  # fmt: skip
