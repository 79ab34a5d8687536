"""Under which name something is kept, and how a reader knows that it is what was kept."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Key:
    """What an entry is made from, and which view of it this is.

    :param digest: a model's, or that of all that the view is computed from. Content has one digest, so an entry never
        grows old; it is only no longer wanted.
    :param view: such as "manifest" or "tensors/0/200".
    """

    digest: str
    view: str

    @classmethod
    def of(cls, view: str, *parts: Any) -> Key:
        """The key of what is computed from `parts`, which are plain JSON."""
        text = json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return cls(hashlib.sha256(text.encode()).hexdigest(), view)

    @property
    def name(self) -> str:
        """Of the view, safe as a file's name."""
        return hashlib.sha256(self.view.encode()).hexdigest()[:32]


SEAL_BYTES = 32


def sealed(key: Key, value: bytes) -> bytes:
    """The value behind the sha256 of it and its key."""
    return _seal(key, value) + value


def unsealed(key: Key, data: bytes) -> bytes | None:
    """The value of a sealed entry; None where it was damaged, cut off, or is another key's."""
    value = data[SEAL_BYTES:]
    return value if data[:SEAL_BYTES] == _seal(key, value) else None


def _seal(key: Key, value: bytes) -> bytes:
    seal = hashlib.sha256(f"{key.digest}\n{key.view}\n".encode())
    seal.update(value)
    return seal.digest()
