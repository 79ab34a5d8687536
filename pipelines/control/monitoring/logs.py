"""Lines of the log: JSON, one object a line, with run, phase and request that they are about; plain for a person.

A line is a line whatever is in it: JSON escapes newlines and the escape sequences of terminals, and so does the plain form.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TextIO

from opentelemetry import trace

from ..about import said

ABOUT = ("run", "phase", "task", "request")
"""What a line is about: said by `about` around the work, or by `extra={"run": …}` of the one line."""

OURS = ("forge", "uvicorn", "uvicorn.error", "uvicorn.access")
ACCESS = "forge.access"
"""Whose messages are objects already: a request each."""

LONGEST = 16_384
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class JsonLines(logging.Formatter):
    """A record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        return json.dumps(fields(record))


class PlainLines(logging.Formatter):
    """A record as one line for a person, its traceback below it."""

    def format(self, record: logging.LogRecord) -> str:
        """The line; what could move a terminal's cursor is escaped."""
        known = fields(record)
        about = " ".join(f"{name}={known[name]}" for name in ABOUT if name in known)
        text = (
            f"{known['time'][11:19]} {known['level']:<7} {known['message']}{f'  [{about}]' if about else ''}"
        )
        line = CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
        raised = known.get("exception", "").replace("\x1b", "\\x1b")
        return f"{line}\n{raised}" if raised else line


def fields(record: logging.LogRecord) -> dict[str, Any]:
    """What a line says."""
    known: dict[str, Any] = {
        "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
        "level": record.levelname.lower(),
        "logger": record.name,
        "message": record.getMessage()[:LONGEST],
    }
    around: Mapping[str, str] = said()
    for name in ABOUT:
        if value := str(getattr(record, name, "") or around.get(name, "")):
            known[name] = value[:400]
    if record.name == ACCESS:
        known |= json.loads(known["message"])
        known["message"] = f"{known['method']} {known['route']} {known['status']}"
    span = trace.get_current_span().get_span_context()
    if span.is_valid:
        known["trace"] = trace.format_trace_id(span.trace_id)
    if record.exc_info:
        known["exception"] = logging.Formatter().formatException(record.exc_info)[-LONGEST:]
    return known


class _StandardError(logging.StreamHandler[TextIO]):
    """Writes to what standard error is when a line is written: whoever had put it elsewhere may have closed that since."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        """Standard error, now."""
        return sys.stderr


def configure(stream: TextIO | None = None, level: int = logging.INFO) -> None:
    """Write all that this process logs: plain to a terminal, as JSON to everything else.

    :param stream: where to; standard error by default.
    :param level: of what we and the server say; of all others only warnings are written.
    """
    handler = logging.StreamHandler(stream) if stream else _StandardError()
    handler.setFormatter(PlainLines() if handler.stream.isatty() else JsonLines())
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    for name in OURS:
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
        logger.setLevel(level)
