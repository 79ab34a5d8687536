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
from .lifecycle import Attempts, perform, settings_of
from .phase import Phase
from .ranks import group, torchrun, training_job
from .ranks.job_objects import Group
from .record import figures
from .request import command_line, run_root
from .request.inputs import Request
from .retries import Retries, with_retries
from .stopping import stoppable
from .tracking import mlflow_tracker
from .tracking.reporter import Reporter


def main(phase: type[Phase[Any]], argv: Sequence[str] | None = None, *, configs: Path = CONFIGS) -> int:
    """Run `phase` as the command line says.

    :returns: the exit code: 0, that of the ForgeError (75 after SIGTERM, with a checkpoint written), 130
        after Ctrl-C, 1.
    """

    def say(text: str) -> None:
        who = f", rank {group.rank()}" if group.rank() else ""
        print(f"{phase.name}{who}: {text}", file=sys.stderr, flush=True)

    with Reporter(phase.name, say) as report:
        code = _run(phase, argv, configs, report, say)
        report.ended(code)
    torchrun.note_exit(code)
    return code


def _run(
    phase: type[Phase[Any]],
    argv: Sequence[str] | None,
    configs: Path,
    report: Reporter,
    say: Callable[[str], None],
) -> int:
    """Do what the command line says, and say what becomes of it: to the log, and to whoever follows the run."""
    about = (phase.__doc__ or phase.name).strip().split("\n\n", 1)[0]
    request: Request | None = None
    failed: BaseException
    try:
        with stoppable():
            request = command_line.parse(phase.name, about, argv)
            if not _in_ranks(phase, request, configs, argv, say):
                _perform(phase, request, configs, report, say)
        return 0
    except group.Left:
        return 0
    except ForgeError as error:
        failed, code = error, error.exit_code
        say(str(error))
    except KeyboardInterrupt as error:
        failed, code = error, 130
        say("stopped; start it again to go on from its last checkpoint")
    except (MemoryError, torch.OutOfMemoryError) as error:
        traceback.print_exc()
        failure = PhaseFailed(
            "out of memory", why=str(error), fix="lower the batch size, or take a smaller profile"
        )
        say(str(failure))
        failed, code = failure, failure.exit_code
    except Exception as error:
        if group.is_loss_of_a_rank(error):
            lost = PhaseFailed(
                "another rank of the group is gone",
                why=str(error).splitlines()[0],
                fix="look at its log; started again, the phase goes on from its last checkpoint",
                transient=True,
            )
            say(str(lost))
            failed, code = lost, lost.exit_code
        elif refusal := disk.refusal(error, f"{request.target} and its checkpoints" if request else ""):
            say(str(refusal))
            failed, code = refusal, refusal.exit_code
        else:
            traceback.print_exc()
            failed, code = error, 1
    report.failed(failed, code)
    return code


def _in_ranks(
    phase: type[Phase[Any]],
    request: Request,
    configs: Path,
    argv: Sequence[str] | None,
    say: Callable[[str], None],
) -> bool:
    """Where the settings ask for a group of ranks and this process is none of one: start it, and wait for its end.

    :returns: whether it was so, and all is done.
    """
    if group.started_as_rank() or "engine" not in phase.Settings.model_fields:
        return False
    try:
        settings: Any = settings_of(phase, request, configs).settings
    except ForgeError:
        return False  # it is said, and told to whoever follows the run, where the phase is run
    engine: torchrun.Engine = settings.engine
    if engine.strategy == "single":
        return False
    arguments = sys.argv[1:] if argv is None else argv
    if engine.launcher != "torchrun":
        run_root.choose_checkpoint_root(request, say)
        job = Group(engine.nodes, engine.processes, engine.launcher)
        with_retries(lambda: training_job.run(phase.name, request, job, say), Retries.from_environment(), say)
        return False  # the artifact is there: what is left is its record
    ranks = torchrun.ranks_here(engine)
    say(f"{ranks} ranks start, strategy {engine.strategy}")
    module = f"components.{phase.name}"
    with_retries(lambda: torchrun.run(module, arguments, ranks), Retries.from_environment(), say)
    return True


def _perform(
    phase: type[Phase[Any]],
    request: Request,
    configs: Path,
    report: Reporter,
    say: Callable[[str], None],
) -> None:
    """Do the work, trying again what may pass, in view of whoever follows the run from outside its pod."""
    retries = Retries.from_environment()
    try:
        root = run_root.choose_checkpoint_root(request, say)
        if group.rank() == 0:  # one rank speaks for all
            report.open(root, request.pipeline_run, request.step)
        attempts = Attempts(report.attempt, sink=report.progress)

        def work() -> None:
            report.trying(attempts.number + 1)
            manifest = perform(phase, request, configs, attempts)
            report.measured(figures(manifest, manifest.timing.get("seconds", 0.0)), "result")

        def noted(text: str) -> None:
            say(text)
            report.note(text)

        with_retries(work, retries, noted)
    except (Interrupted, KeyboardInterrupt):
        raise
    except Exception:
        mlflow_tracker.fail_pipeline(request, phase.name, say)
        raise
