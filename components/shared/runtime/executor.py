"""The entry point of all phases: in a pod, under the local runner, or by hand.

configuration → inputs → identity → seeds → tracking → validate_input → execute → metrics → gates → seal →
publish → metadata

The identity is a digest of everything that determines the result. It names the checkpoints, so that a
restarted phase finds its own and no other's, and it is kept in the artifact, so that a phase restarted
after its end sees that it is done.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from . import disk
from .code import CONFIGS
from .errors import ForgeError, Interrupted, PhaseFailed
from .lifecycle import Attempts, perform
from .phase import Phase
from .request import command_line, run_root
from .request.inputs import Request
from .retries import Retries, with_retries
from .stopping import stoppable
from .tracking import mlflow_tracker
from .tracking.progress_object import ProgressObject


def main(phase: type[Phase[Any]], argv: Sequence[str] | None = None, *, configs: Path = CONFIGS) -> int:
    """Run `phase` as the command line says.

    :returns: the exit code: 0, that of the ForgeError (75 after SIGTERM, with a checkpoint written), 130
        after Ctrl-C, 1.
    """
    about = (phase.__doc__ or phase.name).strip().split("\n\n", 1)[0]

    def say(text: str) -> None:
        print(f"{phase.name}: {text}", file=sys.stderr, flush=True)

    request: Request | None = None
    try:
        with stoppable():
            request = command_line.parse(phase.name, about, argv)
            _perform(phase, request, configs, say)
        return 0
    except ForgeError as error:
        say(str(error))
        return error.exit_code
    except KeyboardInterrupt:
        say("stopped; start it again to go on from its last checkpoint")
        return 130
    except (MemoryError, torch.OutOfMemoryError) as error:
        traceback.print_exc()
        failure = PhaseFailed(
            "out of memory", why=str(error), fix="lower the batch size, or take a smaller profile"
        )
        say(str(failure))
        return failure.exit_code
    except Exception as error:
        if refusal := disk.refusal(error, f"{request.target} and its checkpoints" if request else ""):
            say(str(refusal))
            return refusal.exit_code
        traceback.print_exc()
        return 1


def _perform(phase: type[Phase[Any]], request: Request, configs: Path, say: Callable[[str], None]) -> None:
    """Do the work, trying again what may pass, in view of whoever follows the run from outside its pod."""
    retries = Retries.from_environment()
    try:
        with ProgressObject(run_root.choose_checkpoint_root(request, say), phase.name, say) as following:
            attempts = Attempts(following.attempt, sink=following)

            def work() -> None:
                following.attempt = attempts.number + 1
                perform(phase, request, configs, attempts)

            def noted(text: str) -> None:
                say(text)
                following({"note": text})

            with_retries(work, retries, noted)
    except (Interrupted, KeyboardInterrupt):
        raise
    except Exception:
        mlflow_tracker.fail_pipeline(request, phase.name, say)
        raise
