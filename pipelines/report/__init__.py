"""The report of a run: one self-contained HTML page, and a table for the terminal.

`write(folder)` writes `report.html` into the run's folder; `table(folder)` is what `forge report` prints. Both
read only what the run left behind: `run.json`, each task's `status.json` and the manifests of the artifacts.
"""

from .page import write
from .terminal import table

__all__ = ["table", "write"]
