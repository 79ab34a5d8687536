"""Values as the grammar of overrides writes them, so that each arrives as what it is."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from .map_keys import quoted

QUOTES = re.compile(r"(\\*)('|\Z)")
REFERENCES = re.compile(r"(\\*)(\$\{)")


def literal(value: Any, *, references: bool = False) -> str:
    """A value as an override holds it: `[1, 2]`, `{name: 'x'}`, `null`, text in quotes.

    :param references: `${section.key}` in a text stands for that setting; else for itself.
    """
    if value is None or isinstance(value, bool | int | float):
        return json.dumps(value)
    if isinstance(value, Mapping):
        inner = (f"{quoted(key)}: {literal(item, references=references)}" for key, item in value.items())
        return "{" + ", ".join(inner) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(literal(item, references=references) for item in value) + "]"
    text = str(value)
    # Backslashes stand for themselves, but for those in front of what they would take the meaning of.
    if not references:
        text = REFERENCES.sub(lambda match: 2 * match[1] + "\\${", text)
    return "'" + QUOTES.sub(lambda match: 2 * match[1] + ("\\'" if match[2] else ""), text) + "'"
