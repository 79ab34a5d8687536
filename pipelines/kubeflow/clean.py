"""What runs leave in a store for their own use, and nobody needs later: checkpoints and progress; whole runs if asked.

Runs are known by their shape: a folder called as KFP calls its runs, and below it `checkpoints/…`, `progress/<task>.json`
or `<task>/<uuid>/…`. No other folder is touched, not one of a task's own, which KFP calls alike. A run is old when nothing
in it was written for a while; an older object of a run that still writes stays.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from components.shared.runtime.errors import ConfigError, StoreError
from components.shared.runtime.store.encryption.data_keys import is_key_object
from components.shared.runtime.store.encryption.encrypted import EncryptedStore
from components.shared.runtime.store.folder import FolderStore
from components.shared.runtime.store.interface import Store, walk
from components.shared.runtime.store.uri import open_store

AGE = re.compile(r"(\d+)([hdw])")
SECONDS = {"h": 3600, "d": 86400, "w": 604800}
UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
RUN = re.compile(rf"(?:(.*?)/)?({UUID})/")
"""The first folder in a key that is called as KFP calls its runs."""

OWN = re.compile(rf"checkpoints/(?!{UUID}/).|progress/[^/]+\.json$")
"""What the phases write below a run's root for themselves; a task may be called `checkpoints` or `progress`, too."""

OUTPUT = re.compile(rf"[^/]+/{UUID}/.")
"""What KFP's launcher puts below a run's root."""


@dataclass(frozen=True)
class Stale:
    """What may go of one run.

    :param run: its root below the store.
    :param touched: when something in it was written last, Unix seconds.
    """

    run: str
    touched: float
    keys: Sequence[str]
    bytes: int


def age(text: str) -> int:
    """Seconds of an age such as 12h, 30d or 4w.

    :raises ConfigError: it is none.
    """
    match = AGE.fullmatch(text)
    if not match or not int(match[1]):
        raise ConfigError(f"{text!r} is no age", where="--older-than", fix="write it as 12h, 30d or 4w")
    return int(match[1]) * SECONDS[match[2]]


def stale(address: str, *, older_than: int, artifacts: bool, now: float) -> tuple[Store, list[Stale]]:
    """The store at `address`, and what may go of the runs below it that were not touched for `older_than` seconds.

    :param artifacts: everything of such a run, not only checkpoints and progress.
    :raises ConfigError: there is no address.
    """
    if not address.strip():
        raise ConfigError("there is no address", where="ADDRESS", fix="say where the runs are")
    above, _, last_folder = address.rstrip("/").rpartition("/")
    is_bucket = address.rstrip("/").count("/") == 2 and "://" in address
    single_run = (
        f"{last_folder}/" if RUN.fullmatch(f"{last_folder}/") and not is_bucket else ""
    )  # the address of a run itself
    store = open_store(above if single_run else address)
    runs: dict[str, list[tuple[str, float, int]]] = {}
    for key, touched, size in objects(store, single_run):
        if match := RUN.match(key):
            runs.setdefault(key[: match.end()], []).append((key, touched, size))
    out = []
    for run, entries in sorted(runs.items()):
        names = [key.removeprefix(run) for key, _, _ in entries]
        if not any(OWN.match(name) or OUTPUT.match(name) for name in names):
            continue  # no run: a task's folder in one, or somebody else's
        last = max(touched for _, touched, _ in entries)
        chosen = [entry for entry, name in zip(entries, names, strict=True) if artifacts or OWN.match(name)]
        if now - last >= older_than and chosen:
            size = sum(bytes_ for _, _, bytes_ in chosen)
            out.append(Stale(run.rstrip("/"), last, [key for key, _, _ in chosen], size))
    return store, out


def remove(store: Store, run: Stale) -> bool:
    """Remove what was found of a run; nothing when something was written into it since. False then."""
    if any(touched > run.touched for _, touched, _ in objects(store, f"{run.run}/")):
        return False
    # The manifests, which say that something is whole, go first: half of a model is then none.
    for key in sorted(run.keys, key=lambda key: not key.endswith("/forge.json")):
        store.delete(key)
    return True


def objects(store: Store, prefix: str = "") -> Iterator[tuple[str, float, int]]:
    """Key, time of the last write (Unix seconds) and bytes of everything in a store below `prefix`.

    :raises StoreError: the store does not tell when something was written.
    """
    if isinstance(store, EncryptedStore):  # its data keys go with what they open
        yield from (entry for entry in objects(store.inner, prefix) if not is_key_object(entry[0]))
        return
    if isinstance(store, FolderStore):
        for name in walk(store.root, prefix):
            with contextlib.suppress(FileNotFoundError):  # deleted since, or a link to nothing
                stat = (store.root / name).stat()
                yield name, stat.st_mtime, stat.st_size
        return
    from components.shared.runtime.store.s3 import S3Store

    if not isinstance(store, S3Store):
        raise StoreError(
            "this store does not tell when something was written",
            where=store.uri,
            fix="give an s3:// address",
        )
    for item in store.objects(prefix):
        name = item["Key"].removeprefix(store.prefix)
        if name and not name.endswith("/"):
            yield name, item["LastModified"].timestamp(), item["Size"]
