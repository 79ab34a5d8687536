"""Where the hub is, and where its cache is on this machine."""

from __future__ import annotations

import os
from pathlib import Path

from .address import Address


def endpoint() -> str:
    """The hub, or the mirror that HF_ENDPOINT names."""
    from huggingface_hub import constants

    return (os.environ.get("HF_ENDPOINT") or constants.ENDPOINT).rstrip("/")


def token() -> str | None:
    """HF_TOKEN, or what `hf auth login` has kept."""
    from huggingface_hub import get_token

    return get_token()


def repository(name: str) -> Path:
    """The folder of a model in the hub's cache."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    return Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=name, repo_type="model")


def snapshot(pinned: Address) -> Path:
    """Where the cache has, or will have, the files of this commit."""
    return repository(pinned.place) / "snapshots" / pinned.revision


def offline() -> bool:
    """Whether the cache alone is to be used: HF_HUB_OFFLINE."""
    from huggingface_hub import constants

    return constants.is_offline_mode() or os.environ.get("HF_HUB_OFFLINE", "").lower() in (
        "1",
        "true",
        "yes",
        "on",
    )
