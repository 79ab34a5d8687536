"""About a rejected setting: its allowed values, the file that set it, the keys that look like it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

Location = tuple[str | int, ...]


def allowed(schema: Mapping[str, Any], location: Location) -> str:
    """The values that a JSON schema allows at a location, in words: `integer ≥ 1`, `one of fast, exact`."""
    node = _at(schema, schema, location)
    return _words(schema, node) if node is not None else ""


def keys(schema: Mapping[str, Any], location: Location) -> list[str]:
    """The keys that a JSON schema allows in the mapping at a location."""
    node = _at(schema, schema, location)
    return sorted(_resolve(schema, node).get("properties", {})) if node is not None else []


def source_of(key: str, overrides: Sequence[str], files: Sequence[tuple[Path, str]]) -> str:
    """Who set `key` last: `override 'a.b=1'`, `profile/tiny.yaml:12`, or the phase's own default.

    :param files: the YAML files that take part, strongest first, each with the prefix ("<phase>.") that its
        keys get.
    """
    for override in reversed(overrides):
        name = override.lstrip("+~").split("=", 1)[0]
        if name == key or name.startswith(f"{key}.") or key.startswith(f"{name}."):
            return f"override '{override}'"
    for path, prefix in files:
        if not path.is_file() or not key.startswith(prefix):
            continue
        node = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
        line = _line(node, key.removeprefix(prefix).split("."))
        if line is not None:
            return f"{path.parent.name}/{path.name}:{line}"
    return "the default in settings.py"


def _line(node: yaml.Node | None, parts: Sequence[str]) -> int | None:
    line = None
    for part in parts:
        if isinstance(node, yaml.SequenceNode) and part.isdigit() and int(part) < len(node.value):
            node = node.value[int(part)]
            line = node.start_mark.line + 1
            continue
        if not isinstance(node, yaml.MappingNode):
            return line  # the file sets something that should have been a mapping
        for name, value in node.value:
            if name.value == part:
                node, line = value, name.start_mark.line + 1
                break
        else:
            return None
    return line


def _resolve(root: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    while "$ref" in schema:
        target: Any = root
        for part in schema["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        schema = target
    return schema


def _at(root: Mapping[str, Any], schema: Mapping[str, Any], location: Location) -> Mapping[str, Any] | None:
    schema = _resolve(root, schema)
    if not location:
        return schema
    head, rest = location[0], location[1:]
    options = [*schema.get("anyOf", ()), *schema.get("oneOf", ())]
    for option in options:
        node = _at(root, option, location)
        if node is not None:
            return node
    if isinstance(head, int):
        items = schema.get("prefixItems", ())
        below = items[head] if head < len(items) else schema.get("items")
    else:
        below = schema.get("properties", {}).get(head, schema.get("additionalProperties"))
    if isinstance(below, Mapping):
        return _at(root, below, rest)
    # Pydantic puts the name of a union's member into the location: step over it.
    return _at(root, schema, rest) if options else None


BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}


def _words(root: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    schema = _resolve(root, schema)
    if options := [*schema.get("anyOf", ()), *schema.get("oneOf", ())]:
        return " or ".join(_words(root, option) for option in options)
    if "enum" in schema:
        return "one of " + ", ".join(str(value) for value in schema["enum"])
    if "const" in schema:
        return str(schema["const"])
    kind = str(schema.get("type", "any value"))
    if kind == "boolean":
        return "true or false"
    if kind == "array":
        length = [f"at least {schema['minItems']}"] if "minItems" in schema else []
        length += [f"at most {schema['maxItems']}"] if "maxItems" in schema else []
        of = f" of {_words(root, schema['items'])}" if schema.get("items") else ""
        return f"list{of}" + (f", {' and '.join(length)} long" if length else "")
    if kind == "object" and "properties" in schema:
        return "mapping with the keys " + ", ".join(sorted(schema["properties"]))
    bounds = [f"{sign} {schema[name]}" for name, sign in BOUNDS.items() if name in schema]
    pattern = f" like {schema['pattern']}" if "pattern" in schema else ""
    return kind + (f" {' and '.join(bounds)}" if bounds else "") + pattern
