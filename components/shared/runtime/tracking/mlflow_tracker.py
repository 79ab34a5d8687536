"""MLflow: parameters, curves and lineage of every phase, without ever being in its way.

Every metric goes to `metrics.jsonl` in the phase's work directory and, from a thread of its own, to the
tracking server that MLFLOW_TRACKING_URI names, or to runs/mlflow.db on a laptop. No server is no error; one
that is broken or slow is reported once, tried again now and then, and given up at the end after a few
seconds: a phase neither fails nor waits for it.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..request.inputs import Request
from .mlflow_lineage import DataSet
from .mlflow_log import Destination, MlflowLog, Operation

FLUSH_SECONDS = 2.0
PATIENCE = 10.0
"""A server that has taken nothing for so many seconds is given up at the end."""
POD_PATIENCE = 120.0
"""The same in a pod: a cluster's server may be starting, and what it has not got by then is lost to it."""
LOCAL_PATIENCE = 60.0
"""The same for a database of this machine, which another process may be creating just now."""
UPLOAD_PATIENCE = 600.0
"""The same while an artifact is uploaded."""
PENDING = 50_000
"""So many operations wait for a server that does not answer; beyond, the oldest are only in metrics.jsonl."""


class Tracker:
    """Where a phase reports what it measures.

    >>> tracker.metrics({"loss": 2.3}, step=100)
    >>> with tracker.child("evaluation") as evaluation:
    ...     evaluation.metrics({"accuracy": 0.6})

    :param destination: where MLflow is and what the run is called there; None for no tracking.
    :param file: JSON lines {time, run, step, metrics}; removed by `close` when MLflow has got everything.
    :param say: where trouble is reported.
    :param patience: seconds, in place of PATIENCE or LOCAL_PATIENCE.
    """

    def __init__(
        self,
        destination: Destination | None = None,
        *,
        file: Path | None = None,
        say: Callable[[str], None] = print,
        patience: float | None = None,
    ) -> None:
        self.file = file
        self.say = say
        self.patience = patience
        self.run = ""
        self.root = self
        self.broken = ""
        self._queue: queue.Queue[Operation] = queue.Queue()
        self._pending: list[Operation] = []
        self._closing = threading.Event()
        self._log = None if destination is None else MlflowLog(destination)
        self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)
        if self._log is not None:
            self._thread.start()

    def params(self, values: Mapping[str, Any]) -> None:
        """Parameters of the run, by name; nested mappings get dotted names."""
        self._put("params", {name: str(value) for name, value in flatten(values).items()})

    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        """Numbers measured at a step, or at the end."""
        numbers = {name: float(value) for name, value in values.items()}
        now = time.time()
        self.root._spool({"time": now, "run": self.run, "step": step, "metrics": numbers})
        self._put("metrics", {"values": numbers, "step": step or 0, "time": now})

    def usage(self, values: Mapping[str, float], step: int) -> None:
        """What the process uses: for the server alone, since no two runs of the same work use the same."""
        self._put("metrics", {"values": dict(values), "step": step, "time": time.time()})

    def tags(self, values: Mapping[str, str]) -> None:
        """Text about the run: digests, versions."""
        self._put("tags", {name: str(value) for name, value in values.items()})

    def inputs(self, data_sets: Sequence[DataSet]) -> None:
        """What the run has read: MLflow shows it beside the run, and finds the runs that have read the same."""
        if data_sets:
            self._put("inputs", {"data_sets": list(data_sets)})

    def made(self, name: str, digest: str, facts: Mapping[str, str]) -> None:
        """The model that the run has made, and the facts by which it is found again.

        :param name: what it is called, such as its phase.
        """
        self._put("made", {"name": name, "digest": digest, "facts": dict(facts)})

    @contextlib.contextmanager
    def child(self, name: str) -> Iterator[Tracker]:
        """A run below this one, for an evaluation or a candidate."""
        inner = Tracker()
        inner.root = self.root
        inner.run = f"{self.run}/{name}" if self.run else name
        inner._put("start", {"name": name, "parent": self.run})
        status = "FAILED"
        try:
            yield inner
            status = "FINISHED"
        finally:
            inner._put("end", {"status": status})

    def register(self, path: Path, name: str) -> None:
        """Log the artifact in `path` and make it the next version of `name` in the model registry.

        `path` has to stay until `flush` or `close`.
        """
        self._put("register", {"path": str(path), "name": name})

    def flush(self) -> None:
        """Wait until everything is sent, or nothing has been taken for too long."""
        if self._log is None or not self._thread.is_alive():
            return
        patience = self.patience or (LOCAL_PATIENCE if self._log.is_local else PATIENCE)
        since, before = time.monotonic(), -1
        while self._thread.is_alive():
            left = self._queue.qsize() + len(self._pending)
            if left != before:
                since, before = time.monotonic(), left
            if left == 0 and not self._closing.is_set():
                return
            if time.monotonic() - since > (UPLOAD_PATIENCE if self._log.is_uploading else patience):
                self.broken = self.broken or f"it has not answered for {patience:.0f} s"
                return
            self._thread.join(0.05)

    @property
    def lineage(self) -> dict[str, str]:
        """MLflow's ids of this run and its experiment; empty without a server, or where it never answered."""
        if self._log is None or "" not in self._log.runs:
            return {}
        return {"mlflow_run_id": self._log.runs[""], "mlflow_experiment_id": str(self._log.experiment)}

    def close(self, status: str = "FINISHED", *, kept: str = "") -> None:
        """Send what is left, and say so when not everything could be sent.

        :param status: MLflow's word: FINISHED, FAILED or KILLED.
        :param kept: a clause that says where the metrics are in that case; by default they are in `file`.
        """
        self._put("end", {"status": status})
        self._closing.set()
        self.flush()
        if self._log is not None:
            self.broken = "; ".join(filter(None, [*self._log.refused[:3], self.broken]))
        if self.broken:
            kept = kept or (f"the metrics are kept in {self.file}" if self.file else "the metrics are lost")
            self.say(f"MLflow has not got everything ({self.broken}); {kept}")
        elif self.file is not None and status == "FINISHED":
            self.file.unlink(missing_ok=True)

    def _put(self, kind: str, values: dict[str, Any]) -> None:
        if self.root._log is not None:
            self.root._queue.put(Operation(kind, self.run, values))

    def _spool(self, line: dict[str, Any]) -> None:
        if self.file is None:
            return
        try:
            with self.file.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as error:
            broken, self.file = self.file, None
            self.say(f"metrics are no longer written to {broken}: {error}")

    def _work(self) -> None:
        """The thread: gather operations, send them in batches, wait longer after each failure."""
        assert self._log is not None
        failures = 0
        while True:
            self._closing.wait(min(60.0, FLUSH_SECONDS * 2**failures))
            closing = self._closing.is_set()
            while not self._queue.empty():
                self._pending.append(self._queue.get())
            excess = len(self._pending) - PENDING
            if excess > 0:
                del self._pending[:excess]
                self._log.refused.append(f"{excess} operations were dropped while it did not answer")
            try:
                self._log.send(self._pending)
                failures, self.broken = 0, ""
            except (
                Exception
            ) as error:  # whatever a server, a proxy or a database can do must not reach the phase
                failures += 1
                self.broken = first_line(error)
                if failures == 1 and not self._closing.is_set():  # else `close` says it
                    self.say(f"MLflow does not work, going on without it: {self.broken}")
            if closing and (failures > 1 or not self._pending):
                return


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested values under dotted names: {"a": {"b": 1}} → {"a.b": 1}."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{name}."))
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def destination(request: Request, name: str, identity: str = "") -> Destination | None:
    """MLFLOW_TRACKING_URI; without it mlflow.db in the runs/ folder that the phase belongs to; else None.

    :param name: what the run of the phase is called.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    if not uri:
        runs = _runs_folder(request.target, request.by_hand)
        if runs is None:
            return None
        uri = f"sqlite:///{runs.resolve()}/mlflow.db"
    return Destination(
        uri=uri,
        name=name,
        parent_run=os.environ.get("MLFLOW_RUN_ID", ""),
        pipeline_run=request.pipeline_run,
        identity=identity,
        kfp_run=request.pipeline_run if request.in_pod else "",
        task=os.environ.get("FORGE_TASK", name),
    )


def fail_pipeline(request: Request, name: str, say: Callable[[str], None]) -> None:
    """End MLflow's run of the KFP run as failed: a phase of it has failed, and will not be tried again here."""
    pipeline_destination = destination(request, name)
    if pipeline_destination is None or not pipeline_destination.kfp_run:
        return
    try:
        MlflowLog(pipeline_destination).end_pipeline("FAILED")
    except Exception as error:  # whatever a server can do must not hide why the phase failed
        say(f"MLflow was not told that the pipeline has failed: {first_line(error)}")


def _runs_folder(target: str, by_hand: bool) -> Path | None:
    if "://" not in target:
        for folder in Path(target).absolute().parents:
            if folder.parent.name == "runs" and (folder / "run.json").is_file():
                return folder.parent
    return Path("runs") if by_hand and Path("runs").is_dir() else None


def first_line(error: Exception) -> str:
    """The first line of an error, cut where it gets long."""
    text = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {text[0][:200]}"
