"""A base model to be read on this machine: where its files are, without a copy where there is one."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

from components.shared.runtime.store.local_copy import own_folder

from . import hub
from .address import Address


def reading_copy(base: Address) -> Path:
    """The folder of a model of the hub, in its cache; or that of what a GGUF file was unpacked to, kept for the next time.

    :raises ForgeError: it is not to be had, or cannot be read.
    """
    if base.kind == "hub":
        return hub.fetch(base).folder
    from .gguf_file import (
        unpack_gguf,  # torch and transformers, which a model of the hub's cache does not need yet
    )

    file = Path(base.place).resolve()
    facts = file.stat()
    name = hashlib.sha256(repr((str(file), facts.st_size, facts.st_mtime_ns)).encode()).hexdigest()[:16]
    unpacked = own_folder() / "gguf" / name
    if not unpacked.is_dir():
        draft = unpacked.with_name(f"{name}.{os.getpid()}")
        shutil.rmtree(draft, ignore_errors=True)
        unpack_gguf(file, draft)
        try:
            draft.rename(unpacked)
        except OSError:  # another process was faster
            shutil.rmtree(draft, ignore_errors=True)
    return unpacked
