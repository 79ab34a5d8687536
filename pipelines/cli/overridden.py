"""Settings as `forge phase` takes them too: `bitnet.steps=9` without an option in front is `-O bitnet.steps=9`."""

from __future__ import annotations

from typing import Any

from .several import SeveralValues


class Overridden(SeveralValues):
    """A command with the option --override. What is left over on its command line and has a `=` is one."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments; overrides without an option come behind those with one."""
        ctx.allow_extra_args = True
        super().parse_args(ctx, args)
        if ctx.resilient_parsing:  # a shell asks what might come next
            return []
        for word in ctx.args:
            if "=" not in word or word.startswith("-"):
                ctx.fail(f"Got unexpected extra argument ({word})")
        ctx.params["override"] = [*(ctx.params["override"] or ()), *ctx.args]
        ctx.args = []
        return []
