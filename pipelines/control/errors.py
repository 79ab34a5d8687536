"""What the control plane refuses, with the status of HTTP that says so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from components.shared.runtime.errors import ForgeError


class Refused(ForgeError):
    """A request that is refused, with the status of HTTP that says so.

    :param state: what is there now, where the request was about something older.
    """

    def __init__(
        self,
        status: int,
        what: str,
        *,
        where: str = "",
        why: str = "",
        fix: str = "",
        state: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(what, where=where, why=why, fix=fix)
        self.status = status
        self.state = state
        self.headers = headers


def not_found(what: str, where: str, fix: str = "") -> Refused:
    """There is no such thing; also where whoever asks may not know of it."""
    return Refused(404, what, where=where, fix=fix)
