"""A prepared corpus by its address: made where there is none yet, found again by its key, checked when it is opened.

The key is over what decides the shards: the source's listing, the tokenizer, the evaluation items. Prepared corpora
lie in the folder that FORGE_CORPORA names, by default this user's folder for temporary files. Where it names a bucket
they are fetched from there, and put there once they are made, so that of many pods one tokenises.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

from filelock import FileLock

from components.shared.runtime.artifact.manifest import digest_of
from components.shared.runtime.atomic import write_atomically
from components.shared.runtime.errors import ArtifactError
from components.shared.runtime.store import sealed_json
from components.shared.runtime.store.folder import FolderStore
from components.shared.runtime.store.local_copy import own_folder
from components.shared.runtime.store.uri import open_store
from components.shared.tasks.corpora import CorpusAddress

from .contamination import Contamination
from .prepare import FORMAT, Facts, Seconds, prepare
from .shards import Shards
from .sources import Source, open_source
from .tokens import DocumentEncoder

HOME = "FORGE_CORPORA"
CONTENT = "corpus.json"
STYLE: dict[str, Any] = {"indent": 1, "ensure_ascii": False}


class Corpus:
    """An open corpus: its facts, and its tokens."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.facts = _facts(folder)
        self.shards = Shards(folder, self.facts.dtype, self.facts.tokens, self.facts.shard)

    def lineage(self) -> dict[str, Any]:
        """What a manifest keeps of it."""
        facts = self.facts._asdict()
        del facts["files"], facts["format"], facts["shard"]
        facts["source"] = facts["source"] if "://" in facts["source"] else Path(facts["source"]).name
        return facts


def open_corpus(
    address: CorpusAddress,
    encoder: DocumentEncoder,
    contamination: Contamination,
    *,
    seconds: Seconds | None = None,
) -> Corpus:
    """The corpus at an address, prepared for a tokenizer and cleaned of evaluation items.

    :raises ForgeError: it cannot be read, or nothing is left of it.
    """
    source = open_source(address)
    key = _key(source, encoder, contamination)
    place = os.environ.get(HOME, "")
    remote = place if "://" in place else ""
    home = Path(place) if place and not remote else own_folder() / "corpora"
    home.mkdir(parents=True, exist_ok=True)
    folder = home / key
    with FileLock(home / f"{key}.lock"):
        if not _is_whole(folder):
            shutil.rmtree(folder, ignore_errors=True)
            draft = home / f"{key}.draft"
            shutil.rmtree(draft, ignore_errors=True)  # of a process that was killed
            if not (remote and _fetched(f"{remote.rstrip('/')}/{key}", draft)):
                draft.mkdir()
                _write(prepare(source, encoder, contamination, draft, seconds=seconds), draft)
                if remote:
                    _store(draft, f"{remote.rstrip('/')}/{key}")
            draft.rename(folder)
    return Corpus(folder)


def _key(source: Source, encoder: DocumentEncoder, contamination: Contamination) -> str:
    parts = [FORMAT, source.address, source.listing(), encoder.digest, contamination.digest]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def _write(facts: Facts, folder: Path) -> None:
    write_atomically(folder / CONTENT, sealed_json.encode(facts._asdict(), **STYLE).decode())


def _facts(folder: Path) -> Facts:
    """What a prepared corpus says of itself, sealed.

    :raises ArtifactError: it was changed.
    """
    try:
        return Facts(**sealed_json.decode((folder / CONTENT).read_bytes(), **STYLE))
    except (OSError, ValueError, TypeError) as error:
        raise ArtifactError(
            "a prepared corpus is damaged",
            where=str(folder),
            why=str(error),
            fix="remove the folder: it is made again",
        ) from error


def _is_whole(folder: Path) -> bool:
    """Whether a prepared corpus is there, every byte as it was written."""
    if not (folder / CONTENT).is_file():
        return False
    facts, store = _facts(folder), FolderStore(folder)
    if digest_of(facts.files) != facts.digest:
        return False
    return all(
        (folder / name).is_file() and store.sha256(name) == entry["sha256"]
        for name, entry in facts.files.items()
    )


def _fetched(address: str, folder: Path) -> bool:
    """Whether the store has this corpus; it is in `folder` then."""
    store = open_store(address)
    if not store.exists(CONTENT):
        return False
    store.download("", folder)
    return _is_whole(folder)


def _store(folder: Path, address: str) -> None:
    """Put it there: what says that it is whole comes last. Others that made the same write the same."""
    store, names = open_store(address), [path.name for path in folder.iterdir() if path.name != CONTENT]
    store.upload(folder, names=names)
    store.put(CONTENT, folder / CONTENT)
