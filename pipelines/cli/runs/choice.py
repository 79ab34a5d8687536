"""Which run is meant, wherever it runs.

With --host, KFP_HOST or the address of a run's page it is one of Kubeflow; a run of this machine that has the name
that was given comes first, so that both can be looked at in one shell.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..options import access

if TYPE_CHECKING:
    from ...kubeflow.state.run import Watcher
    from ...runs.folder import RunFolder


def local_run(run: str, runs: Path, host: str) -> RunFolder | None:
    """The run on this machine that is meant; None for one of Kubeflow."""
    from ...runs.folder import RunFolder, find

    if "#/runs/details/" in run:
        return None
    if host and (run == "latest" or not any(RunFolder(path).exists() for path in (runs / run, Path(run)))):
        return None
    return find(runs, run)


def watcher_of(run: str, host: str, *connection: str) -> Watcher:
    """What looks at a run of Kubeflow.

    :param connection: namespace, token, cookies, authority.
    """
    from ...kubeflow.server import RUN_PAGE, Server
    from ...kubeflow.state.run import Watcher

    page = RUN_PAGE.match(run)
    server = Server(access(page[1] if page else host, *connection))
    return Watcher.of(server, server.find(run))
