"""The data keys of a store: one for each folder, wrapped, in a small object `.forge-key-<id>` in that folder.

An artifact, a checkpoint, a pod's chunks are a folder each. Every encrypted object names the id of its data key, so
two writers that both make one for the same folder do no harm: each object is read by the key that it names.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import threading
from dataclasses import dataclass, field

from ...errors import DamagedObject, MissingKey, StoreError
from .. import sealed_json
from ..interface import Store, StoredObject
from .key_ring import KeyRing, damaged_key

PREFIX = ".forge-key-"
FORMAT = 1
ID = 16
"""Bytes of a data key's id."""


@dataclass(frozen=True)
class DataKey:
    """A data key: its id, the key, and the text of the object that keeps it."""

    id: bytes
    key: bytes = field(repr=False)
    text: bytes = field(repr=False)


def is_key_object(key: str) -> bool:
    """Whether a key of a store is that of a wrapped data key."""
    return key.rpartition("/")[2].startswith(PREFIX)


def folder_of(key: str) -> str:
    """The folder of a key, with its slash; "" at the store's root."""
    return key[: key.rfind("/") + 1]


def text_of(id: bytes, name: str, wrapped: bytes) -> bytes:
    """What a key object holds: which key has wrapped it, and the wrapped key. It guards itself against bits that flip."""
    content = {
        "format": FORMAT,
        "id": id.hex(),
        "wrapped_by": name,
        "wrapped": base64.b64encode(wrapped).decode(),
    }
    return sealed_json.encode(content, indent=1)


def read(text: bytes, where: str) -> tuple[bytes, str, bytes]:
    """Id, name of the wrapping key and wrapped key of a key object.

    :raises DamagedObject: it is damaged, or of another format.
    """
    try:
        content = sealed_json.decode(text, indent=1)
        if content["format"] != FORMAT:
            raise ValueError(f"it has format {content['format']}, and this version reads {FORMAT}")
        return (
            bytes.fromhex(content["id"]),
            str(content["wrapped_by"]),
            base64.b64decode(content["wrapped"], validate=True),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise damaged_key(where, error) from error


class DataKeys:
    """The data keys beside the objects of a store.

    :param store: the store of ciphertext.
    """

    def __init__(self, store: Store, ring: KeyRing) -> None:
        self.store = store
        self.ring = ring
        self._known: dict[tuple[str, bytes], DataKey] = {}
        self._writing: dict[str, DataKey] = {}
        self._lock = threading.Lock()

    def for_writing(self, folder: str, *, over_plain: bool = False) -> DataKey:
        """The data key that a folder's new objects are encrypted by; made where the folder has none.

        :param over_plain: make it although the folder holds objects that are not encrypted.
        :raises StoreError: the folder holds such objects, or none of the keys at hand opens its data key.
        """
        with self._lock:
            if known := self._writing.get(folder):
                return known
            listed = self.store.list(folder if over_plain else f"{folder}{PREFIX}")
            there = sorted(entry.key for entry in listed if folder_of(entry.key) == folder)
            keys = [key for key in there if is_key_object(key)]
            if keys:
                key = self._opened(self.store.get(keys[0]), keys[0])
            else:
                if not over_plain:
                    self._refuse_plain(folder)
                key = self._new(folder)
            self._writing[folder] = self._known[folder, key.id] = key
            return key

    def for_reading(self, folder: str, id: bytes) -> DataKey:
        """The data key of this id.

        :raises DamagedObject: it is gone, or damaged.
        :raises StoreError: none of the keys at hand opens it.
        """
        if known := self._known.get((folder, id)):
            return known
        place = place_of(folder, id)
        try:
            text = self.store.get(place)
        except MissingKey as error:
            raise DamagedObject(
                "the wrapped data key of an encrypted object is gone",
                where=self.store.address(place),
                why="it lies beside what it opens, and was deleted or not copied along",
                fix="restore this object from a copy: what it opens cannot be read without it",
            ) from error
        self._known[folder, id] = key = self._opened(text, place)
        return key

    def keep(self, folder: str, key: DataKey) -> None:
        """See that a data key is still there, after an object was written by it.

        Whoever deletes a folder's last object deletes its data key with it, and may have done so in between.
        """
        if not self.store.exists(place := place_of(folder, key.id)):
            self.store.put(place, key.text)

    def drop(self, folder: str) -> None:
        """Delete the data keys of a folder that holds nothing any more."""
        keys, others = self._listed(folder)
        if others or not keys:
            return
        texts: dict[str, bytes] = {}
        for entry in keys:
            with contextlib.suppress(MissingKey):  # another one that deletes here was faster
                texts[entry.key] = self.store.get(entry.key)
        for place in texts:
            self.store.delete(place)
        with self._lock:
            self._writing.pop(folder, None)
        if self._listed(folder)[1]:  # somebody has written since: the keys stay, and are the same
            for place, text in texts.items():
                self.store.put(place, text)

    def _listed(self, folder: str) -> tuple[list[StoredObject], list[StoredObject]]:
        """The key objects of a folder, and its other objects; not those of folders in it."""
        here = [entry for entry in self.store.list(folder) if folder_of(entry.key) == folder]
        return (
            [entry for entry in here if is_key_object(entry.key)],
            [entry for entry in here if not is_key_object(entry.key)],
        )

    def _refuse_plain(self, folder: str) -> None:
        if plain := self._listed(folder)[1]:
            raise StoreError(
                "the folder holds objects that are not encrypted",
                where=self.store.address(folder),
                why=", ".join(entry.key for entry in plain[:3]) + (" and more" if plain[3:] else ""),
                fix=f"encrypt them first: forge encryption encrypt {self.store.uri}",
            )

    def _new(self, folder: str) -> DataKey:
        id = os.urandom(ID)
        kek = self.ring.newest
        key, wrapped = kek.new(id.hex())
        text = text_of(id, kek.name, wrapped)
        self.store.put(place_of(folder, id), text)
        return DataKey(id, key, text)

    def _opened(self, text: bytes, place: str) -> DataKey:
        where = self.store.address(place)
        id, name, wrapped = read(text, where)
        if place_of(folder_of(place), id) != place:
            raise DamagedObject("a wrapped data key is another's", where=where, why=json.dumps(id.hex()))
        return DataKey(id, self.ring.unwrap(name, wrapped, id.hex(), where), text)


def place_of(folder: str, id: bytes) -> str:
    """The key under which a folder keeps the data key of this id."""
    return f"{folder}{PREFIX}{id.hex()}"
