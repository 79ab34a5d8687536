"""`forge report`: what a run has measured."""

from __future__ import annotations

import json
from pathlib import Path

from ..options import AsJson, Run, Runs, console, say


def report(run: Run = "latest", runs: Runs = Path("runs"), as_json: AsJson = False) -> None:
    """Write a run's report again, and print its table.

    \b
    forge report
    forge report demo --json
    """
    from ...runs.folder import find

    folder = find(runs, run)
    from ...report import page, records  # which draws, and so loads matplotlib: there is a run

    written = page.write(folder.path)
    if as_json:
        say(json.dumps({**records.to_json(records.read(folder.path)), "page": str(written)}, indent=1))
        return
    from ..rendering.report import table

    console.print(table(folder.path))
    say(f"report: {written}")
