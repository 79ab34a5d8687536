"""The last task of the pipeline: the page of the run and the assessment of its last model, from the other tasks' records.

    python -m pipelines.report --executor-input '{{$}}'

On a cluster it also ends the MLflow run that stands for the whole pipeline: it runs only where all else has succeeded.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from components.shared.assessment import OUTPUT
from components.shared.runtime.errors import ForgeError, InputError
from components.shared.runtime.request import inputs
from components.shared.runtime.request.inputs import Request
from pipelines.runs import mlflow_run
from pipelines.runs.folder import write_json
from pipelines.runs.published import record

from .assessed import Assessments, figures
from .page import render
from .records import Run, from_records


def main(argv: Sequence[str] | None = None) -> int:
    """Write the page where KFP's executor input wants it."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.report", description=__doc__)
    parser.add_argument("--executor-input", required=True, metavar="JSON", help="what KFP passes as {{$}}")
    try:
        request = inputs.from_kfp(parser.parse_args(argv).executor_input, beside=OUTPUT)
        records = [record(Path(path)) for path in request.inputs.get("records", [])]
        if not records:
            raise InputError(
                "there are no records to report on",
                where="--executor-input, record_1 …",
                fix="pass {{$}} of a task that has some as it is",
            )
        run = from_records(os.environ.get("FORGE_PIPELINE_RUN", "a run"), records)
        page = Path(request.target)
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(render(run), encoding="utf-8")
        _assess(run, request)
        print(f"{page}: {len(records)} tasks")
        if request.in_pod:
            _close(run)
    except ForgeError as error:
        print(f"report: {error}", file=sys.stderr, flush=True)
        return error.exit_code
    return 0


def _assess(run: Run, request: Request) -> None:
    """Write the last model's assessment, and its figures as metadata for KFP's interface."""
    found = Assessments(run).final
    if request.record is None or request.output_file is None:
        return
    write_json(request.record, found.as_dict() if found else {})
    metadata = figures(found) if found else {}
    write_json(request.output_file, {"artifacts": {OUTPUT: {"artifacts": [{"metadata": metadata}]}}})


def _close(run: Run) -> None:
    """End the pipeline's MLflow run, where it is ours: one that KFP's plugin made is the plugin's to end."""
    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    if not uri or os.environ.get("MLFLOW_RUN_ID"):
        return
    seconds = run.info["finished"] - run.info["started"]
    closing = mlflow_run.start_closing(uri, run.name, run.info["status"], {"seconds": seconds})
    mlflow_run.wait(closing, print)


if __name__ == "__main__":
    raise SystemExit(main())
