"""One-phase pipelines: importers, then the phase, to run a phase again on any artifact.

    python pipelines/single_phase.py compile|submit PHASE …        (or: forge compile|submit --from PHASE --to PHASE)

KFP can clone a run and retry a failed one, but not run one component of it again; these pipelines are that. Evomerge takes
several addresses; cognate takes none, as it starts from base models.
"""

import os
import sys
from pathlib import Path

if __name__ == "__main__":  # as a script: import from the project, not from this folder
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from typing import Any

from pipelines import agent_forge


def pipeline(phase: str, **fixed: Any) -> Any:
    """The pipeline `agent-forge-<phase>`. `artifact_uri` (evomerge: `artifact_uri_1` …) says what it works on.

    :param fixed: as for `agent_forge.pipeline`.
    """
    return agent_forge.pipeline(start=phase, end=phase, **fixed)


if __name__ == "__main__":  # the forge command, in this process's place: nothing below it imports it
    os.execv(sys.executable, [sys.executable, "-m", "pipelines.cli.script", *sys.argv])
