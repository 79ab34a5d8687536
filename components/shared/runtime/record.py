"""What KFP keeps of a task beside its artifact: metadata, and a record that outlives the pod.

The record is the file of the output `metrics`, one JSON object:

    {"format": 1, "task", "phase", "step", "started", "finished", "seconds", "cpu_seconds", "peak_memory_bytes",
     "attempts", "manifest": forge.json as written, "curves": [{"time", "run", "step", "metrics"} …],
     "usage": as the curves, of what the process used}

The curves are thinned (curves.py). A report over a whole run reads the records of its tasks and nothing else.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .artifact.manifest import Manifest, encode
from .atomic import write_atomically
from .measured import scores_of
from .request.inputs import METRICS, Request

FORMAT = 1


@dataclass(frozen=True)
class Outcome:
    """What a phase has left behind.

    :param curves: lines of metrics.jsonl.
    :param lineage: MLflow's ids, as `Tracker.lineage` gives them.
    :param usage: lines of `Usage`.
    """

    manifest: Manifest
    curves: Sequence[Mapping[str, Any]] = ()
    lineage: Mapping[str, str] = field(default_factory=dict)
    usage: Sequence[Mapping[str, Any]] = ()


def write(request: Request, outcome: Outcome, timing: Mapping[str, Any], attempts: int) -> None:
    """Write the record, and KFP's output metadata to the file that its input names; nothing by hand.

    :param timing: of this pod's work: started, seconds, cpu_seconds, peak_memory_bytes.
    """
    if request.output_file is None:
        return
    manifest = outcome.manifest
    metadata = {request.output_name: _artifact_metadata(manifest, outcome.lineage)}
    if request.record is not None:
        record = {
            "format": FORMAT,
            "task": os.environ.get("FORGE_TASK", manifest.phase),
            "phase": manifest.phase,
            "step": request.step,
            "started": timing["started"],
            "finished": timing["started"] + timing["seconds"],
            **{name: timing[name] for name in ("seconds", "cpu_seconds", "peak_memory_bytes")},
            "attempts": attempts,
            "manifest": json.loads(encode(manifest)),
            "curves": list(outcome.curves),
            "usage": list(outcome.usage),
        }
        _write_json(request.record, record)
        metadata[METRICS] = figures(manifest, timing["seconds"])
    artifacts = {name: {"artifacts": [{"metadata": values}]} for name, values in metadata.items()}
    _write_json(request.output_file, {"artifacts": artifacts})


def _artifact_metadata(manifest: Manifest, lineage: Mapping[str, str]) -> dict[str, Any]:
    """Numbers and texts only: KFP's store of metadata keeps no null, and shows lists as it pleases."""
    passed: dict[str, bool] = {}
    for gate in manifest.gates:
        passed[gate["metric"]] = passed.get(gate["metric"], True) and bool(gate["passed"])
    return {
        **manifest.metrics,
        "digest": manifest.digest,
        "bytes": manifest.bytes,
        "parameters": manifest.parameters,
        "parents": json.dumps(manifest.parents),
        "code_version": manifest.code_version,
        "seed": manifest.seed,
        "gates": json.dumps(passed),
        **lineage,
    }


def figures(manifest: Manifest, seconds: float) -> dict[str, float]:
    """What runs are compared by, in KFP's interface and elsewhere."""
    return {
        **manifest.metrics,
        **scores_of(manifest.scores),
        **_judged(manifest),
        "bytes": float(manifest.bytes),
        "parameters": float(manifest.parameters),
        "seconds": float(seconds),
    }


def _judged(manifest: Manifest) -> dict[str, float]:
    """How many gates held and how many did not; nothing where there is none."""
    if not manifest.gates:
        return {}
    passed = sum(bool(gate["passed"]) for gate in manifest.gates)
    return {"gates_passed": float(passed), "gates_failed": float(len(manifest.gates) - passed)}


def _write_json(file: Path, content: Mapping[str, Any]) -> None:
    write_atomically(file, json.dumps(content, ensure_ascii=False, allow_nan=False))
