"""`forge phase`: one phase by hand."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from ...phases import between


def phase(context: typer.Context, name: Annotated[str, typer.Argument(help="One of the eight.")]) -> None:
    """Run one phase by hand; `forge phase NAME --help` lists its options.

    \b
    forge phase quietstar --input runs/demo/artifacts/evomerge/model --output /tmp/thinker
    forge phase cognate --step trunk --output /tmp/trunk
    """
    from components.shared.runtime.code import ROOT

    if name in ("--help", "-h"):
        typer.echo(context.get_help())
        return
    between(name, name)
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH", ""))))
    arguments = [sys.executable, "-m", f"components.{name}", *context.args]
    os.execve(sys.executable, arguments, {**os.environ, "PYTHONPATH": path})
