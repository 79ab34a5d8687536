"""Which places a request may name: the configured stores and folders, and nothing else that this process could reach.

Nothing is asked of the network to find out, so there is no name whose address could change between the check and the use.
"""

from __future__ import annotations

import re
from pathlib import Path

from ..errors import Refused
from ..settings import ControlSettings

SCHEMES = ("s3://", "minio://")
_S3 = re.compile(r"(?:s3|minio)://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/([\w.=+@,/-]*))?", re.ASCII)


def allowed_place(settings: ControlSettings, address: str) -> str:
    """The place that a request names, where it lies in a configured store or folder.

    :param address: s3://bucket/prefix, minio://bucket/prefix or a folder.
    :returns: it, a folder without symbolic links and `..`.
    :raises Refused: 403: it lies elsewhere.
    """
    if not address.isprintable() or len(address) > 4096:
        raise _refused()
    if address.lower().startswith(SCHEMES):
        return _in_store(settings, address)
    if (
        "://" in address
        or address.startswith(("//", "\\\\", "~"))
        or re.match(r"[a-z][a-z0-9+.-]*:", address, re.I)
    ):
        raise _refused()
    return _in_folder(settings, address)


def _in_store(settings: ControlSettings, address: str) -> str:
    named = _parts(address)
    for place in configured(settings):
        if place.lower().startswith(SCHEMES):
            root = _parts(place)
            if named[: len(root)] == root:
                return address
    raise _refused()


def _parts(address: str) -> list[str]:
    """The bucket and the parts of the key; minio is a way to say s3."""
    if (match := _S3.fullmatch(address)) is None:
        raise _refused()
    parts = (match[2] or "").strip("/").split("/") if match[2] else []
    if any(part in ("", ".", "..") for part in parts):
        raise _refused()
    return [match[1], *parts]


def _in_folder(settings: ControlSettings, address: str) -> str:
    try:
        path = Path(address).resolve()
        kept = settings.folder.resolve()
        roots = [Path(place).resolve() for place in configured(settings) if "://" not in place]
    except (OSError, RuntimeError, ValueError):
        raise _refused() from None
    if path.is_relative_to(kept) or not any(path.is_relative_to(root) for root in roots):
        raise _refused()
    return str(path)


def configured(settings: ControlSettings) -> list[str]:
    """The stores and folders that requests may name."""
    return [place for place in (str(settings.runs), settings.store, *settings.places) if place]


def _refused() -> Refused:
    return Refused(
        403,
        "this place is none of ours",
        where="address",
        why="models are read from the runs' folder and from the configured store alone",
        fix="copy the model there, or let whoever runs the server add its place to FORGE_PLACES",
    )
