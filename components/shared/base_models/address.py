"""What a person may call a base model: a name of the hub, a folder, an address in a store, a GGUF file.

    HuggingFaceTB/SmolLM2-135M-Instruct          its main branch, resolved to a commit where a run is planned
    Qwen/Qwen2.5-0.5B@v1.0                       a branch, a tag or a commit
    ./my-model          s3://bucket/my-model     a Hugging Face folder, or an artifact
    ./model.Q4_K_M.gguf                          one file

Nothing is imported here that costs time: a request is checked with it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from components.shared.runtime.errors import InputError

HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
COMMIT = re.compile(r"[0-9a-f]{40}")
GGUF = ".gguf"

Kind = Literal["hub", "folder", "store", "gguf"]


@dataclass(frozen=True)
class Address:
    """Where a base model is.

    :param place: the name, the path or the address, without the revision.
    :param revision: of a name of the hub: a branch, a tag or a commit; "" for the main branch.
    """

    kind: Kind
    place: str
    revision: str = ""

    @property
    def pinned(self) -> bool:
        """Whether it means the same bytes for ever: a name of the hub at a commit."""
        return self.kind == "hub" and COMMIT.fullmatch(self.revision) is not None

    def at(self, commit: str) -> Address:
        """The same name at this commit."""
        return replace(self, revision=commit)

    def __str__(self) -> str:
        return f"{self.place}@{self.revision}" if self.revision else self.place


def address(text: str) -> Address:
    """What `text` names. What lies on this machine goes before a name of the hub that is spelled alike.

    :raises InputError: nothing lies there, and it is no name of the hub either.
    """
    text = text.strip()
    if "://" in text:
        return Address("store", text)
    path = Path(text).expanduser()
    if path.is_file() and path.suffix.lower() == GGUF:
        return Address("gguf", str(path))
    if text and path.is_dir():
        return Address("folder", str(path))
    name, _, revision = text.partition("@")
    if HUB_NAME.fullmatch(name) and not name.lower().endswith(GGUF) and not path.exists():
        return Address("hub", name, revision)
    raise InputError(
        f"there is no base model {text!r}",
        where="--base-model",
        why="it is a file, and not a .gguf"
        if path.is_file()
        else "no such folder or .gguf file on this machine",
        fix="give a name of the hub (owner/name, owner/name@revision), a folder, an s3:// address or a .gguf file",
    )
