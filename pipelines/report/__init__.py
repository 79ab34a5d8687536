"""The report of a run: one self-contained HTML page, and a table for the terminal.

`page.write(folder)` writes `report.html` into the run's folder; `terminal.table(folder)` is what `forge report` prints.
Both read only what the run left behind: `run.json`, each task's `status.json` and the manifests of the artifacts. On a
cluster the pipeline's last task makes the same page from the tasks' records (`python -m pipelines.report`).
"""
