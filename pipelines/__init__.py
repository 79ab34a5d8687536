"""The pipeline that joins the phases: its graph, its runs on this machine and on a cluster, and the `forge` command.

Python has `run` and `run_sync` of it (`api.py`).
"""

from .api import run, run_sync

__all__ = ["run", "run_sync"]
