"""Writes the table of values in the chart's README from the comments in its values.yaml.

    python charts/values_table.py            writes the table
    python charts/values_table.py --check    exit code 1 where README.md has another

A comment that starts with `# --` describes the key under it, up to that key; what follows it in the same comment goes
on with it. A key with such a comment is a row with all that is under it as its default; keys without are only the way
to those that have one.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).resolve().parent / "agent-forge"
BEGIN, END = "<!-- values: written by charts/values_table.py -->", "<!-- end of values -->"


def rows(text: str) -> Iterator[tuple[str, str, Any]]:
    """(key with dots, description, default) of every key that has a description."""
    values = yaml.safe_load(text)
    path: list[tuple[int, str]] = []
    described: list[str] = []
    for line in text.splitlines():
        words = line.strip()
        if words.startswith("# -- "):
            described = [words.removeprefix("# -- ")]
        elif words.startswith("#") and described:
            described.append(words.removeprefix("#").strip())
        elif not words or words.startswith(("#", "- ")):
            described = []
        else:
            indent = len(line) - len(line.lstrip())
            path = [step for step in path if step[0] < indent] + [(indent, words.split(":", 1)[0])]
            if described:
                keys = [key for _, key in path]
                yield ".".join(keys), " ".join(described), _at(values, keys)
            described = []


def table(text: str) -> str:
    """The table, in Markdown."""
    lines = ["| Key | Default | What it is |", "|---|---|---|"]
    for key, description, default in rows(text):
        shown = json.dumps(default, ensure_ascii=False).replace("|", "\\|")
        lines.append(f"| `{key}` | `{shown}` | {description.replace('|', chr(92) + '|')} |")
    return "\n".join(lines)


def with_table(readme: str, text: str) -> str:
    """The README with the table of these values between its marks."""
    before, rest = readme.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n{table(text)}\n{END}{after}"


def _at(values: Any, keys: list[str]) -> Any:
    for key in keys:
        values = values[key]
    return values


if __name__ == "__main__":
    page = CHART / "README.md"
    written = with_table(page.read_text(), (CHART / "values.yaml").read_text())
    if "--check" in sys.argv[1:]:
        sys.exit(page.read_text() != written)
    page.write_text(written)
