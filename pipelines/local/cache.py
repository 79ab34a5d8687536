"""Where a run's artifacts are kept beyond this machine, and the index of results that need not be computed again.

The store holds `<run>/artifacts/<task>/<output>/…`, as the runs folder does, and `cache/<key>.json`, which names the
outputs of the task that once had this key. Without `--store` the runs folder itself is the store, and nothing is copied.

The store may be shared, and whoever can write into it can write anything: an entry names a task of a run below the runs
folder and the outputs that the component declares, or it is none.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from components.shared.runtime.artifact.manifest import MANIFEST
from components.shared.runtime.atomic import write_atomically
from components.shared.runtime.errors import ArtifactError, ForgeError, MissingKey
from components.shared.runtime.store import sealed_json
from components.shared.runtime.store.interface import Store, is_safe_name, walk
from components.shared.runtime.store.uri import open_store

from ..ir.spec import Component
from ..ir.values import artifact_metadata, from_text
from ..runs.folder import TaskFolder, checked_name
from .cache_key import content_digest

FICLONE = 0x40049409
"""The ioctl of Linux that makes one file of another without copying (btrfs, xfs)."""


def _run(name: str) -> str:
    try:
        return checked_name(name)
    except ForgeError as error:
        raise ValueError(error.what) from error


def _task(name: str) -> str:
    if not is_safe_name(name):
        raise ValueError(f"{name!r:.100} is no name of a task")
    return name


class CacheEntry(BaseModel):
    """What the index says of a key; sealed, and with the key in it, so that no entry stands for another.

    :param outputs: the digest of each output artifact.
    :param parameters: the text of each output parameter.
    :param metadata: what the task wrote of its outputs, None for nothing.
    """

    model_config = ConfigDict(frozen=True, strict=True)

    key: str
    run: Annotated[str, AfterValidator(_run)]
    task: Annotated[str, AfterValidator(_task)]
    outputs: Mapping[str, str]
    parameters: Mapping[str, str]
    metadata: dict[str, Any] | None


def read_entry(content: bytes, component: Component, key: str, where: str) -> CacheEntry:
    """The entry in a file of the index, for a task of this component under this key.

    :raises ArtifactError: it is damaged, or made for another component or another key.
    """
    try:
        entry = CacheEntry.model_validate(sealed_json.decode(content, indent=1))
        if entry.key != key:
            raise ValueError("it was made for another key")
        for name, parameter in component.output_parameters.items():
            from_text(entry.parameters[name], parameter.type, name)
        artifact_metadata(entry.metadata, where)
    except (ValueError, KeyError, ForgeError) as error:
        why = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise ArtifactError("the entry of the cache is damaged", where=where, why=why) from error
    declared = {*component.output_artifacts}, {*component.output_parameters}
    if declared != ({*entry.outputs}, {*entry.parameters}):
        raise ArtifactError("the entry of the cache names other outputs than the task has", where=where)
    return entry


class ArtifactCache:
    """The artifacts of all runs: a folder on this machine, and a store behind it where one was named.

    :param runs: the runs folder.
    :param uri: a folder or s3://bucket/prefix; empty for none beyond the runs folder.
    """

    def __init__(self, runs: Path, uri: str = "") -> None:
        self.runs = runs
        self.uri = uri
        self.store: Store = open_store(uri or str(runs))
        self.remote = bool(uri) and ("://" in uri or Path(uri).resolve() != runs.resolve())

    def keep(self, path: Path) -> None:
        """Put an artifact of a run, a file or a folder, into the store; its manifest last."""
        if not self.remote:
            return
        key = self._key(path)
        if path.is_dir():
            names = set(walk(path))
            self.store.upload(path, key, sorted(names - {MANIFEST}))
            self.store.upload(path, key, names & {MANIFEST})
        else:
            self.store.put(key, path)

    def has(self, path: Path) -> bool:
        """Whether an artifact of a run is on this machine or in the store."""
        if path.exists() or not self.remote:
            return path.exists()
        key = self._key(path)
        return self.store.exists(key) or bool(self.store.list(f"{key}/"))

    def bring(self, path: Path) -> bool:
        """Make sure that an artifact of a run is on this machine. False when it is nowhere."""
        if path.exists():
            return True
        if not self.remote:
            return False
        key = self._key(path)
        partial = path.parent / f".{path.name}.{uuid.uuid4().hex}"
        partial.parent.mkdir(parents=True, exist_ok=True)
        try:
            if self.store.exists(key):
                self.store.fetch(key, partial)
            else:
                self.store.download(key, partial)
            partial.rename(path)
        except MissingKey:
            return False
        finally:
            remove(partial)
        return True

    def remember(
        self, key: str, component: Component, folder: TaskFolder, digests: Mapping[str, str]
    ) -> None:
        """Put a finished task into the index."""
        parameters = sorted(component.output_parameters)
        entry = {
            "key": key,
            "run": folder.run.name,
            "task": folder.task,
            "outputs": dict(digests),
            "parameters": {name: folder.parameter(name).read_text(errors="replace") for name in parameters},
            "metadata": json.loads(folder.output_metadata.read_text())
            if folder.output_metadata.is_file()
            else None,
        }
        self.store.put(_address(key), sealed_json.encode(entry, indent=1))

    def entry(self, key: str, component: Component) -> CacheEntry | None:
        """What the index says of a key; None where it knows nothing.

        :raises ArtifactError: the entry is damaged.
        """
        try:
            content = self.store.get(_address(key))
        except MissingKey:
            return None
        return read_entry(content, component, key, self.store.address(_address(key)))

    def recall(
        self, key: str, component: Component, folder: TaskFolder, say: Callable[[str], None]
    ) -> dict[str, str] | None:
        """Give a task the outputs that were made under the same key. None when there are none that are whole.

        Files are linked where they lie on the same file system. Every byte is verified first.
        """
        try:
            entry = self.entry(key, component)
            if entry is None:
                return None
            origin = TaskFolder(self.runs / entry.run, entry.task)
            for name, digest in entry.outputs.items():
                source = origin.output(name)
                if not self.bring(source) or content_digest(source, verify=True) != digest:
                    say(f"its cached result in {source} is gone or changed; it runs again")
                    return None
        except (ForgeError, OSError) as error:  # OSError: a link to itself, a disk that cannot be read
            say(f"its cached result cannot be used: {error}")
            return None
        for name in entry.outputs:
            _discard_drafts(folder.output(name))
            if origin.output(name) != folder.output(name):
                _share(origin.output(name), folder.output(name))
        for name, text in entry.parameters.items():
            write_atomically(folder.parameter(name), text)
        if entry.metadata is not None:
            write_atomically(folder.output_metadata, json.dumps(entry.metadata))
        return dict(entry.outputs)

    def _key(self, path: Path) -> str:
        return path.relative_to(self.runs).as_posix()


def _address(key: str) -> str:
    return f"cache/{key}.json"


def remove(path: Path) -> None:
    """A file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _discard_drafts(output: Path) -> None:
    """Remove what a killed phase had begun to write beside its output (`scratch.staging`)."""
    for path in list(output.parent.glob(".*")):
        if path.name.startswith(f".{output.name}."):
            remove(path)


def _share(source: Path, target: Path) -> None:
    """The same files under another name, as files of their own where the file system copies on write; else as links.

    Files that have two names may not be written in place any more: it would damage both runs.
    """

    def share(file: str, name: str) -> str:
        ways: Sequence[Callable[[str, str], object]] = (_clone, _link, shutil.copyfile)
        for way in ways:
            try:
                way(file, name)
                break
            except OSError:
                if way is shutil.copyfile:
                    raise
        return name

    remove(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.parent / f".{target.name}.{uuid.uuid4().hex}"
    if source.is_dir():
        shutil.copytree(source, partial, copy_function=share)
    else:
        share(str(source), str(partial))
    partial.rename(target)


def _link(file: str, name: str) -> None:
    os.link(file, name)
    with contextlib.suppress(OSError):  # somebody else's file, which we could not write either
        os.chmod(file, 0o444)


def _clone(file: str, name: str) -> None:
    """A copy that shares the disk's blocks until one is written. OSError where the file system cannot (ext4, tmpfs)."""
    with open(file, "rb") as source, open(name, "xb") as copy:
        try:
            fcntl.ioctl(copy.fileno(), FICLONE, source.fileno())
        except OSError:
            os.unlink(name)
            raise
