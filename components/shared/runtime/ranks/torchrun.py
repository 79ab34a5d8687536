"""Start the ranks of a phase inside its pod by torchrun, watch them, and say how they ended.

Each rank is the phase's own command once more. The first that fails ends the group: torchrun stops the others. A SIGTERM is
passed on, so that all write their checkpoint together; when this process dies, so do they.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import torch

from .. import stopping
from ..errors import Interrupted, PhaseFailed
from . import group

FOLDER = "FORGE_RANKS"
"""The environment variable that names the folder in which ranks leave their exit codes."""
SHUTDOWN_SECONDS = 600
"""So long ranks may write their checkpoint after a SIGTERM, or learn that another is gone."""
TICK = 0.2
PR_SET_PDEATHSIG = 1


class Engine(Protocol):
    """What is asked of a group of ranks; the settings of the training loops have it."""

    @property
    def strategy(self) -> str:
        """`single`, or one over ranks."""

    @property
    def processes(self) -> int | str:
        """Ranks on a node, or `auto`."""

    @property
    def nodes(self) -> int:
        """Pods that train together."""

    @property
    def launcher(self) -> str:
        """`torchrun`, `trainjob` or `pytorchjob`."""


def ranks_here(engine: Engine) -> int:
    """How many ranks this machine gets: as asked, or one for each of its GPUs."""
    if engine.processes == "auto":
        return max(1, torch.cuda.device_count())
    return int(engine.processes)


def run(module: str, arguments: Sequence[str], ranks: int) -> None:
    """Run `python -m module arguments` as a group of ranks, to its end.

    :raises Interrupted: they were asked to stop, and have written their checkpoint.
    :raises PhaseFailed: a rank was killed, or none of them says why it ended.
    :raises SystemExit: rank 0 has said what is wrong; this is its exit code.
    """
    with tempfile.TemporaryDirectory(prefix="forge-ranks-") as folder:
        command = [
            *(
                sys.executable,
                "-m",
                "torch.distributed.run",
                "--nproc-per-node",
                str(ranks),
                "--max-restarts",
                "0",
            ),
            *("--master-addr", "127.0.0.1", "--master-port", str(_free_port()), "--monitor-interval", "0.2"),
            *("--shutdown-timeout", str(SHUTDOWN_SECONDS), "--module", module, *arguments),
        ]
        # What fails is tried again by this process, with a whole group.
        environment = {**os.environ, FOLDER: folder, "FORGE_RETRIES": "0"}
        agent = subprocess.Popen(command, env=environment, preexec_fn=die_with_parent)
        told = False
        while agent.poll() is None:
            if stopping.stop_requested() and not told:
                agent.send_signal(signal.SIGTERM)
                told = True
            time.sleep(TICK)
        codes = {int(file.stem): int(file.read_text()) for file in Path(folder).glob("*.code")}
    _judge(codes, ranks, agent.returncode)


def note_exit(code: int) -> None:
    """Leave this rank's exit code for whoever started it."""
    if folder := os.environ.get(FOLDER, ""):
        Path(folder, f"{group.rank()}.code").write_text(str(code))


def die_with_parent() -> None:
    """Have the kernel send this process a SIGTERM when the one that started it is gone (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _judge(codes: dict[int, int], ranks: int, returned: int) -> None:
    """Raise what the exit codes say."""
    if returned == 0:
        return
    if Interrupted.exit_code in codes.values():
        raise Interrupted(
            "stopped as asked; the ranks have written a checkpoint", fix="start it again to go on"
        )
    if silent := sorted(set(range(ranks)) - set(codes)):
        raise PhaseFailed(
            f"rank {silent[0]} of {ranks} was killed",
            why="it ended without a word; the others were stopped",
            fix="look for the kernel's out-of-memory messages; start it again to go on from the last checkpoint",
            transient=True,
        )
    wrong = [code for _, code in sorted(codes.items()) if code not in (0, PhaseFailed.exit_code)]
    raise SystemExit(wrong[0] if wrong else PhaseFailed.exit_code)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
