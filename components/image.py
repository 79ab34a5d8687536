"""Which container image a phase runs in, and what is started in it. Imports nothing, so that compiling
stays light.
"""

import os

VERSION = "0.1.0"
"""The project's version, and the tag of the images that belong to it."""


def image(phase: str) -> str:
    """The image of `phase`: `$AGENT_FORGE_IMAGE_<PHASE>` (for a registry, or a digest when released), else
    the local tag.
    """
    return os.environ.get(f"AGENT_FORGE_IMAGE_{phase.upper()}", f"agent-forge/{phase}:{VERSION}")


def arguments(module: str, step: str = "") -> list[str]:
    """The arguments after `python`: the phase's module, its step where it has several, and KFP's executor
    input.
    """
    return ["-m", f"components.{module}", *(["--step", step] if step else []), "--executor-input", "{{$}}"]
