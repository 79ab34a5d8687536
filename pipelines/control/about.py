"""What is being worked on, for the log: the run, the phase, the request. It follows the work through `await`.

with about(run=name, phase="bitnet"):
    log.info("resumed")             # the line says of which run
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from contextvars import ContextVar

_SAID: ContextVar[Mapping[str, str] | None] = ContextVar("about", default=None)


@contextlib.contextmanager
def about(**what: str) -> Iterator[None]:
    """Say what is being worked on, until the block ends.

    :param what: `run`, `phase`, `task`, `request`; what was said around it still holds.
    """
    token = _SAID.set({**said(), **what})
    try:
        yield
    finally:
        _SAID.reset(token)


def said() -> Mapping[str, str]:
    """What is being worked on here."""
    return _SAID.get() or {}
