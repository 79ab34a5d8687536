"""What no request may hold, whoever made it: texts that are no places, and values that no manifest could keep."""

from __future__ import annotations

import json
from collections.abc import Iterator

from ..errors import ConfigError
from .inputs import Request


def require_sane(request: Request) -> None:
    """Refuse, before any work, what would fail in the middle of it.

    :raises ConfigError: a place with a zero byte, a text that is not Unicode, a number that is not finite, a value
        that is nested too deep.
    """
    for where, text in _places(request):
        if "\0" in text or not _is_unicode(text):
            raise ConfigError(
                f"no place is called {text!r:.80}", where=where, fix="use a path or an address in UTF-8"
            )
    for name, value in request.parameters.items():
        try:
            json.dumps({name: value}, ensure_ascii=False, allow_nan=False).encode()
        except (ValueError, RecursionError) as error:
            raise ConfigError(
                f"the parameter {name[:80]!r} has a value that cannot be kept",
                where=f"parameter {name[:80]!r}",
                why=str(error)[:200],
                fix="give finite numbers, texts in UTF-8, and lists that are not nested deep",
            ) from error


def _places(request: Request) -> Iterator[tuple[str, str]]:
    yield "--output", request.target
    yield "--checkpoints", request.checkpoint_root
    yield "--progress", request.progress
    yield "outputs.outputFile", str(request.output_file or "")
    yield "output metrics", str(request.record or "")
    yield "the output's uri", request.uri
    yield "pipeline_run", request.pipeline_run
    for name, addresses in request.inputs.items():
        yield from ((f"input {name[:80]!r}", text) for text in (name, *addresses))


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
