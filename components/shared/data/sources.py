"""Where the files of a corpus are: a folder, a bucket, the hub. A source lists them, and gives their documents.

A file of a bucket is fetched, read and removed again: one at a time is on this machine.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from components.shared.runtime.errors import InputError
from components.shared.runtime.store.folder import FolderStore
from components.shared.runtime.store.interface import Store, StoredObject
from components.shared.runtime.store.uri import open_store
from components.shared.tasks.corpora import CorpusAddress

from .formats import documents_in, is_known


class Source(Protocol):
    """A corpus as it lies somewhere.

    :param address: what it is called in the lineage.
    """

    address: str

    def listing(self) -> list[str]:
        """What is there, so that a change shows: one text a file."""

    def documents(self, work: Path) -> Iterator[bytes]:
        """The documents, in the same order every time: UTF-8, stripped, none empty.

        :param work: a folder for what has to be fetched.
        """


class Files:
    """The files of a store, in the order of their names.

    :raises InputError: there are none that hold documents.
    """

    def __init__(self, address: CorpusAddress, store: Store, name: str = "") -> None:
        self.address = address.place
        self.column = address.column
        self.store = store
        self.files: list[StoredObject] = [
            each for each in store.list(name) if is_known(each.key) and (not name or each.key == name)
        ]
        if not self.files:
            raise InputError(
                "there is no corpus here",
                where=address.place,
                why="no file of parquet, jsonl, Arrow or text",
                fix="check the address",
            )

    def listing(self) -> list[str]:
        """Name, size and the store's tag of each file."""
        return [self.column, *(repr((each.key, each.bytes, each.tag)) for each in self.files)]

    def documents(self, work: Path) -> Iterator[bytes]:
        """File by file."""
        for file in self.files:
            where = self.store.address(file.key)
            if isinstance(self.store, FolderStore):
                yield from documents_in(self.store.root / file.key, where, self.column)
                continue
            with tempfile.TemporaryDirectory(dir=work) as folder:
                path = Path(folder) / "file"
                self.store.fetch(file.key, path)
                yield from documents_in(path, where, self.column)


def open_source(address: CorpusAddress) -> Source:
    """The source at an address.

    :raises ForgeError: nothing is there, or it cannot be reached.
    """
    if address.kind == "hub":
        from .hub import HubDataset  # datasets takes a second to import

        return HubDataset(address)
    if address.kind == "store":
        return Files(address, open_store(address.place))
    path = Path(address.place)
    if not path.exists():
        raise InputError(
            "there is no such folder or file",
            where=address.place,
            fix="check the path, or owner/name for the hub",
        )
    name = path.name if path.is_file() else ""
    return Files(address, FolderStore(path.parent if name else path), name)
