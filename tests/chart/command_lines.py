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
    """The arguments of every `forge …` line of a shell script or a code block: lines joined, variables kept."""
    joined = re.sub(r"\\\n\s*", " ", text)
    for line in joined.splitlines():
        words = re.match(r"^\s*(?:\$ )?(?:.*&& )?(?:exec |\"\$FORGE\" |forge )(.*)$", line)
        if words and re.match(r"^\s*(?:.*&& )?(?:forge|\"\$FORGE\") ", line):
            yield [
                word
                for word in shlex.split(words[1].split(" | ")[0].split(" > ")[0], comments=True)
                if word != "&"
            ]
