"""The pipeline that joins the phases: its graph, its runs on this machine and on a cluster, and the `forge` command.

    from pipelines import run, run_sync
"""

from .api import run, run_sync

__all__ = ["run", "run_sync"]
