"""What is encrypted below a store's address and by which key, and the ways from one key to the next.

Rotation wraps the data keys again, and touches nothing else: a store of terabytes is rotated by rewriting some hundred
bytes a folder. It may be stopped and started again, and runs may go on meanwhile.
"""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from ...errors import MissingKey
from ..interface import TRANSFERS
from . import data_keys
from .data_keys import folder_of, is_key_object
from .encrypted import EncryptedStore


@dataclass(frozen=True)
class EncryptionStatus:
    """What lies below an address.

    :param encrypted: objects of ciphertext.
    :param plain: keys of the objects that are not encrypted.
    :param wrapped_by: number of data keys by the name of the key that wraps them.
    :param unused: data keys of folders that hold nothing else.
    """

    encrypted: int = 0
    plain: list[str] = field(default_factory=list)
    wrapped_by: dict[str, int] = field(default_factory=dict)
    unused: list[str] = field(default_factory=list)


def status(store: EncryptedStore) -> EncryptionStatus:
    """Look at every object's first bytes, and at every data key's object.

    :raises DamagedObject: a data key's object is damaged.
    """
    every = [entry.key for entry in store.inner.list()]
    keys = [key for key in every if is_key_object(key)]
    objects = [key for key in every if not is_key_object(key)]
    used = {folder_of(key) for key in objects}
    with ThreadPoolExecutor(TRANSFERS) as pool:
        names = Counter(pool.map(lambda key: _wrapped_by(store, key), keys))
        encrypted = list(pool.map(store.is_encrypted, objects))
    plain = [key for key, is_encrypted in zip(objects, encrypted, strict=True) if not is_encrypted]
    unused = [key for key in keys if folder_of(key) not in used]
    return EncryptionStatus(sum(encrypted), plain, dict(sorted(names.items())), unused)


def rotate(store: EncryptedStore) -> tuple[int, int]:
    """Wrap by the newest key every data key that another one wraps.

    :returns: how many were wrapped again, and how many are wrapped by it already.
    :raises StoreError: none of the keys at hand opens one; those before it are wrapped again.
    """
    keys = [entry.key for entry in store.inner.list() if is_key_object(entry.key)]
    with ThreadPoolExecutor(TRANSFERS) as pool:
        wrapped = list(pool.map(lambda key: _rewrap(store, key), keys))
    return wrapped.count(True), wrapped.count(False)


def encrypt_plain(store: EncryptedStore) -> int:
    """Encrypt, in place, what is not encrypted yet; nobody may write there meanwhile. The number of objects."""
    plain = status(store).plain
    for key in plain:
        store.encrypt_in_place(key)
    return len(plain)


def _wrapped_by(store: EncryptedStore, key: str) -> str:
    return data_keys.read(store.inner.get(key), store.address(key))[1]


def _rewrap(store: EncryptedStore, key: str) -> bool | None:
    """True where it was wrapped again, False where that is not needed, None where it has gone since."""
    where = store.address(key)
    try:
        id, name, wrapped = data_keys.read(store.inner.get(key), where)
    except MissingKey:
        return None
    newest = store.ring.newest
    if name == newest.name:
        return False
    data_key = store.ring.unwrap(name, wrapped, id.hex(), where)
    store.inner.put(key, data_keys.text_of(id, newest.name, newest.wrap(data_key, id.hex())))
    return True
