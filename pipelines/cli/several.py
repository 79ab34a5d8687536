"""Options that take several values at once: `--base-models A B` is `--base-models A --base-models B`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from typer.core import TyperCommand

SEVERAL = ("--base-models",)


def expanded(arguments: Sequence[str], options: Sequence[str] = SEVERAL) -> list[str]:
    """The arguments with such an option in front of each of its values, which end where the next option begins."""
    words: list[str] = []
    option, values = "", 0
    for argument in arguments:
        if argument in options:
            option, values = argument, 0
            words.append(argument)
        elif argument.startswith("-") or not option:
            option = ""
            words.append(argument)
        else:
            words += [option, argument] if values else [argument]
            values += 1
    return words


class SeveralValues(TyperCommand):
    """A command without positional arguments, some of whose options take several values at once."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments, each value behind an option of its own."""
        return super().parse_args(ctx, expanded(args))
