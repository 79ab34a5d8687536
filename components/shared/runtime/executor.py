"""The entry point of all eight phases: in a pod, under the local runner, or by hand.

configuration → inputs → identity → seeds → tracking → validate_input → execute → metrics → gates → seal →
publish → metadata

The identity is a digest of everything that determines the result. It names the checkpoints, so that a
restarted phase finds its own and no other's, and it is kept in the artifact, so that a phase restarted
after its end sees that it is done.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from . import checkpoint, inputs
from .config import CONFIGS
from .errors import ForgeError, PhaseFailed
from .lifecycle import perform
from .phase import Phase


def main(phase: type[Phase], argv: Sequence[str] | None = None, *, configs: Path = CONFIGS) -> int:
    """Run `phase` as the command line says.

    :returns: the exit code: 0, that of the ForgeError (75 after SIGTERM, with a checkpoint written), 130
        after Ctrl-C, 1.
    """
    about = (phase.__doc__ or phase.name).strip().split("\n\n", 1)[0]
    try:
        with _stoppable():
            perform(phase, inputs.parse(phase.name, about, argv), configs)
        return 0
    except ForgeError as error:
        print(f"{phase.name}: {error}", file=sys.stderr, flush=True)
        return error.exit_code
    except KeyboardInterrupt:
        print(
            f"{phase.name}: stopped; start it again to go on from its last checkpoint",
            file=sys.stderr,
            flush=True,
        )
        return 130
    except (MemoryError, torch.OutOfMemoryError) as error:
        traceback.print_exc()
        failure = PhaseFailed(
            "out of memory", why=str(error), fix="lower the batch size, or take a smaller profile"
        )
        print(f"{phase.name}: {failure}", file=sys.stderr, flush=True)
        return failure.exit_code
    except Exception:
        traceback.print_exc()
        return 1


@contextlib.contextmanager
def _stoppable() -> Iterator[None]:
    """SIGTERM asks for a checkpoint instead of killing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    checkpoint.forget_stop()
    before = signal.signal(signal.SIGTERM, checkpoint.ask_to_stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
