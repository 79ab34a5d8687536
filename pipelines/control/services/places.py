"""Where models may lie that the control plane reads or writes by itself."""

from __future__ import annotations

from pathlib import Path

from ..errors import Refused
from ..settings import ControlSettings


def allowed_place(settings: ControlSettings, address: str) -> str:
    """An address below the runs or below the configured store, without ways around.

    :returns: the address as the store writes it.
    :raises Refused: it is elsewhere.
    """
    if "://" in address:
        place = address.rstrip("/")
        store = settings.store.rstrip("/")
        plain = not any(part in ("", ".", "..") for part in place.partition("://")[2].split("/"))
        if "://" in store and plain and (place == store or place.startswith(f"{store}/")):
            return place
    else:
        path = Path(address).resolve()
        roots = [
            settings.runs,
            *([Path(settings.store)] if settings.store and "://" not in settings.store else []),
        ]
        if any(path.is_relative_to(root.resolve()) for root in roots):
            return str(path)
    raise Refused(
        422, "this place is none of ours", where="address",
        why="models are read from the runs' folder and from the configured store alone",
        fix="copy the model there, or start the server with FORGE_STORE",
    )  # fmt: skip
