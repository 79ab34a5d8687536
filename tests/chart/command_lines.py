"""`forge` command lines, held against the real command: in templates, scripts, notes and READMEs."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from typing import Any

import typer
from typer.core import TyperGroup


def refused(arguments: list[str]) -> str:
    """What the command has against these arguments, nothing when it takes them. Nothing is run."""
    from pipelines.cli import app

    command: Any = typer.main.get_command(app)
    context = command.make_context("forge", list(arguments))
    rest = list(arguments)
    try:
        while isinstance(command, TyperGroup):
            name, command, rest = command.resolve_command(context, rest)
            context = command.make_context(name, list(rest), parent=context)
    except typer.Exit:  # --help
        return ""
    except Exception as error:  # typer's own click: each of its refusals has this
        return str(error.format_message())  # type: ignore[attr-defined]
    return ""


def in_text(text: str) -> Iterator[list[str]]:
    """The arguments of every line of a script or a code block that starts with `forge`; continued lines are joined."""
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        words = shlex.split(line, comments=True) if line.lstrip().startswith("forge ") else []
        if words and not line.rstrip().endswith("}"):  # `forge() {…}` and prose are none
            yield [word for word in words[1:] if word != "&"]
