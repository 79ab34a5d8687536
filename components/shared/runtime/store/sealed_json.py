"""JSON that guards itself: no changed byte goes unseen.

Its last field, `seal`, is the SHA-256 of all the others, and its text is the only text that its content may have.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

SEAL = "seal"


def encode(content: Mapping[str, Any], **style: Any) -> bytes:
    """The sealed text of `content`.

    :param style: how json.dumps writes it; `decode` has to be told the same.
    :raises TypeError: something in it is no JSON.
    :raises ValueError: something in it is no JSON that this style allows (NaN, a lone surrogate).
    """
    return _text({**content, SEAL: _digest(content, style)}, style)


def decode(text: bytes, **style: Any) -> dict[str, Any]:
    """What `encode` was given.

    :raises ValueError: it is not JSON, no object, or not what was sealed.
    """
    try:
        content = json.loads(text)
    except RecursionError as error:
        raise ValueError("not JSON (nested too deep)") from error
    except ValueError as error:
        raise ValueError(f"not JSON ({error})") from error
    if not isinstance(content, dict):
        raise ValueError("not a JSON object")
    unsealed = {key: value for key, value in content.items() if key != SEAL}
    try:
        intact = content.get(SEAL) == _digest(unsealed, style) and _text(content, style) == text
    except (ValueError, RecursionError):  # what this style does not allow was never written by `encode`
        intact = False
    if not intact:
        raise ValueError("its text does not match its own seal")
    return unsealed


def _digest(content: Mapping[str, Any], style: Mapping[str, Any]) -> str:
    return hashlib.sha256(_text(content, style)).hexdigest()


def _text(content: Mapping[str, Any], style: Mapping[str, Any]) -> bytes:
    return json.dumps(content, **style).encode() + b"\n"
