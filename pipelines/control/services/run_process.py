"""A run of this machine, as a process of its own: prepared, carried out, concluded. It needs nothing of the control plane.

    python -m pipelines.control.services.run_process

Its standard input has one line of JSON, which comes when the process is on record. Where the controller dies before, the
input ends without it, and nothing is begun: what nobody knows of does not run. From then on the controller may come and go.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.shared.runtime.atomic import write_atomically
from components.shared.runtime.errors import ForgeError, Interrupted

if TYPE_CHECKING:
    from ...local.execute import Listener, RunResult
    from ...local.plan import Plan


def main() -> int:
    """Read the order, and do it; the exit code is that of `forge run-pipeline`."""
    line = sys.stdin.readline()
    if not line.endswith("\n"):
        return 0
    order = json.loads(line)
    outcome = Path(order["outcome"])
    try:
        return carried_out(order["request"])
    except ForgeError as error:
        _say(outcome, error.what, error.where, error.why, error.fix)
        return error.exit_code
    except BaseException as error:
        _say(outcome, "the runner has failed", why=f"{error!r:.500}", fix="its log has more")
        raise


def carried_out(request: Mapping[str, Any]) -> int:
    """Prepare a run, carry it out, and write its report.

    :param request: the fields of a `RunRequest`.
    :raises ForgeError: it cannot begin.
    """
    from ...api import conclude
    from ...local.plan import RunRequest
    from ...local.prepare import prepare
    from ..companions import companions_of

    plan = prepare(RunRequest(**{**request, "runs": Path(request["runs"])}))
    companions = companions_of(plan, print)
    if companions is not None:
        companions.recall()
    result = asyncio.run(_carried_out(plan, [companions] if companions is not None else []))
    report = conclude(plan, result)
    if companions is not None:
        companions.conclude(result, report)
    error = result.error()
    return error.exit_code if error is not None else 0


async def _carried_out(plan: Plan, listeners: Sequence[Listener]) -> RunResult:
    from ...local.execute import start

    run = start(plan, listeners)
    stops = 0

    def stop() -> None:
        nonlocal stops
        stops += 1
        if stops > 2:  # phases are killed; what is left is a store or a disk that does not answer
            os._exit(Interrupted.exit_code)
        run.stop()

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    return await run.wait()


def _say(outcome: Path, what: str, where: str = "", why: str = "", fix: str = "") -> None:
    outcome.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(outcome, json.dumps({"what": what, "where": where, "why": why, "fix": fix}))


if __name__ == "__main__":
    sys.exit(main())
