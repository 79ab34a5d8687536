"""What `python -m components.<phase>` does first: it answers the command line before anything heavy is loaded.

torch and transformers take seconds to import. Help and a mistake on the command line do not need them, and a stop
signal that comes meanwhile is not lost on a process that is the container's first.
"""

from __future__ import annotations

import importlib
import signal
import sys
import threading
from types import FrameType
from typing import NoReturn

from .errors import ForgeError, Interrupted
from .request import command_line


def start(phase: str, name: str) -> int:
    """Run the class `name` of components.<phase>.phase as the command line says.

    :returns: the exit code, see executor.main.
    """
    package = importlib.import_module(f"components.{phase}")
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _stop)  # until the executor puts its own in place
    try:
        command_line.parse(phase, package.__doc__ or phase, None)
    except ForgeError as error:
        print(f"{phase}: {error}", file=sys.stderr, flush=True)
        return error.exit_code
    module = importlib.import_module(f"components.{phase}.phase")
    executor = importlib.import_module("components.shared.runtime.executor")
    return int(executor.main(getattr(module, name)))


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    """Nothing has been done yet: whoever starts it again loses nothing."""
    raise SystemExit(Interrupted.exit_code)
