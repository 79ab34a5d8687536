"""Keys of maps in overrides that Hydra's grammar has no form for: `{"corpus:/data/wiki": 1, file:mine.jsonl: 2}`.

A key in quotes, or one with a colon in it and a colon and a space behind it as in YAML, gets a name that the grammar
takes while it is parsed, and its own again in what comes of that.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

TOKEN = re.compile(
    r"""(?P<text>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")(?P<colon>\s*:)?"""
    r"""|(?P<key>[^\s'"{}\[\](),\\]+?:[^\s'"{}\[\](),\\]+):(?=\s)"""
    r"|(?P<open>[{\[(])|(?P<close>[}\])])|(?P<comma>,)|(?P<space>\s+)|(?:\\.|[^\s'\"{}\[\](),])+|.",
    re.DOTALL,
)
PLAIN = re.compile(r"(?!(true|false|null|inf|nan)\Z)[a-z_][\w-]*", re.ASCII | re.IGNORECASE)
QUOTE = re.compile(r"(\\*)('|\Z)")


def hidden(override: str) -> tuple[str, dict[str, str]]:
    """An override as the grammar can read it.

    :returns: it, and the names in it → the keys that they stand for.
    """
    name, equals, value = override.partition("=")
    parts, keys, above, first = list[str](), dict[str, str](), list[str](), False
    for found in TOKEN.finditer(value):
        kind, part = found.lastgroup, found[0]
        key = found["key"]
        if found["text"] and found["colon"]:
            key = _unquoted(found["text"])
        if key is not None and first and above[-1] == "{":
            stand_in = f"key_{len(keys)}_{'_' * override.count('key_')}"
            keys[stand_in] = key
            part = f"{stand_in}:"
        if kind == "open":
            above.append(part)
        elif kind == "close" and above:
            above.pop()
        first = bool(above) and (kind in ("open", "comma") or (first and kind == "space"))
        parts.append(part)
    return f"{name}{equals}{''.join(parts)}", keys


def shown(value: Any, keys: Mapping[str, str]) -> Any:
    """What was parsed, each key as it was written."""
    if isinstance(value, dict):
        return {keys.get(str(key), key): shown(item, keys) for key, item in value.items()}
    return [shown(item, keys) for item in value] if isinstance(value, list) else value


def quoted(key: object) -> str:
    """A key as an override holds it."""
    text = str(key)
    if PLAIN.fullmatch(text) or not isinstance(key, str):
        return text
    return "'" + QUOTE.sub(lambda match: 2 * match[1] + ("\\'" if match[2] else ""), text) + "'"


def _unquoted(text: str) -> str:
    """What stands in quotes: a backslash is one, but in front of such a quote."""
    mark, inner = text[0], text[1:-1]
    return re.sub(
        rf"(\\+)({mark}|\Z)",
        lambda match: "\\" * (len(match[1]) // 2) + match[2],
        inner,
    )
