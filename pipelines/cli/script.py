"""The command line of pipelines/agent_forge.py, and of pipelines/single_phase.py.

The latter takes the phase as its second argument:

    python -m pipelines.cli.script pipelines/agent_forge.py compile|run|submit …
"""

from __future__ import annotations

import sys
from pathlib import Path

from . import app


def script(file: Path, arguments: list[str]) -> None:
    """Run the `forge` command that a script of this project stands for."""
    if arguments[:1] == ["run"]:
        arguments[0] = "run-pipeline"
    if file.stem == "single_phase" and len(arguments) > 1:
        phase = arguments.pop(1)
        arguments += ["--from", phase, "--to", phase]
    app(arguments, prog_name=file.name)


if __name__ == "__main__":
    script(Path(sys.argv[1]), sys.argv[2:])
