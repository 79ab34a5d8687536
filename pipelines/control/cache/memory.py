"""The first layer: this process' memory, bounded in bytes; what was not asked for longest goes first."""

from __future__ import annotations

from collections import OrderedDict

from .key import Key

ENTRY_BYTES = 256
"""What an entry costs beside its value, roughly."""


class Memory:
    """Entries in memory.

    :param limit: bytes of all of them.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.bytes = 0
        self.evicted = 0
        self._entries: OrderedDict[Key, bytes] = OrderedDict()
        self._views: dict[str, set[Key]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: Key) -> bytes | None:
        """The value, which now is the newest."""
        value = self._entries.get(key)
        if value is not None:
            self._entries.move_to_end(key)
        return value

    def put(self, key: Key, value: bytes) -> None:
        """Keep a value, where it is not larger than all that may be kept."""
        self._drop(key)
        if len(value) + ENTRY_BYTES > self.limit:
            return
        self._entries[key] = value
        self._views.setdefault(key.digest, set()).add(key)
        self.bytes += len(value) + ENTRY_BYTES
        while self.bytes > self.limit:
            self._drop(next(iter(self._entries)))
            self.evicted += 1

    def forget(self, digest: str) -> None:
        """Drop every view of a digest."""
        for key in list(self._views.get(digest, ())):
            self._drop(key)

    def _drop(self, key: Key) -> None:
        value = self._entries.pop(key, None)
        if value is not None:
            self.bytes -= len(value) + ENTRY_BYTES
            views = self._views[key.digest]
            views.discard(key)
            if not views:
                del self._views[key.digest]
