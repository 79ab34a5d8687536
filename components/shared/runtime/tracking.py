"""MLflow: parameters, curves and lineage of every phase, without ever being in its way.

Every metric goes to `metrics.jsonl` in the phase's work directory and, from a thread of its own, to the tracking server that
MLFLOW_TRACKING_URI names, or to runs/mlflow.db on a laptop. No server is no error; one that is broken or slow is reported
once, tried again now and then, and given up at the end after a few seconds: a phase neither fails nor waits for it.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from .mlflow_log import Destination, MlflowLog, Operation

FLUSH_SECONDS = 2.0
PENDING = 50_000
"""So many operations wait for a server that does not answer; beyond, the oldest are only in metrics.jsonl."""


class Tracker:
    """Where a phase reports what it measures.

    >>> tracker.metrics({"loss": 2.3}, step=100)
    >>> with tracker.child("evaluation") as evaluation:
    ...     evaluation.metrics({"accuracy": 0.6})

    :param destination: where MLflow is and what the run is called there; None for no tracking.
    :param file: JSON lines {time, run, step, metrics}.
    :param say: where trouble is reported.
    """

    def __init__(
        self, destination: Destination | None, *, file: Path | None = None, say: Callable[[str], None] = print
    ) -> None:
        self.destination = destination
        self.file = file
        self.say = say
        self.path = ""
        self.broken = ""
        self.dropped = 0
        self._queue: queue.Queue[Operation | None] = queue.Queue()
        self._urgent = threading.Event()
        self._thread: threading.Thread | None = None
        if destination is not None:
            self._thread = threading.Thread(
                target=self._work, args=(destination,), name="mlflow", daemon=True
            )
            self._thread.start()

    def params(self, values: Mapping[str, Any]) -> None:
        """Parameters of the run, by name; nested mappings get dotted names."""
        self._put("params", {name: str(value) for name, value in flatten(values).items()})

    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        """Numbers measured at a step, or at the end."""
        numbers = {name: float(value) for name, value in values.items()}
        now = time.time()
        self._spool({"time": now, "run": self.path, "step": step, "metrics": numbers})
        self._put("metrics", {"values": numbers, "step": step or 0, "time": now})

    def tags(self, values: Mapping[str, str]) -> None:
        """Text about the run: digests, versions."""
        self._put("tags", {name: str(value) for name, value in values.items()})

    @contextlib.contextmanager
    def child(self, name: str) -> Iterator[Tracker]:
        """A run below this one, for an evaluation or a candidate."""
        inner = Tracker(None, file=self.file, say=self.say)
        inner.path = f"{self.path}/{name}" if self.path else name
        inner._queue, inner._thread = self._queue, self._thread
        inner._put("start", {"name": name, "parent": self.path})
        try:
            yield inner
        except BaseException:
            inner._put("end", {"status": "FAILED"})
            raise
        inner._put("end", {"status": "FINISHED"})

    def register(self, path: Path, name: str) -> None:
        """Log the artifact in `path` and make it the next version of `name` in the model registry."""
        self._put("register", {"path": str(path), "name": name})

    def close(self, status: str = "FINISHED", deadline: float = 10.0) -> None:
        """Send what is left, for at most `deadline` seconds.

        :param status: MLflow's word: FINISHED, FAILED or KILLED.
        """
        if self._thread is None:
            return
        self._put("end", {"status": status})
        self._queue.put(None)
        self._urgent.set()
        self._thread.join(deadline)
        if self._thread.is_alive():
            self.broken = self.broken or f"it did not answer within {deadline:.0f} s"
        if self.broken:
            self.say(f"MLflow has not got everything ({self.broken}); the metrics are kept in {self.file}")
        self._thread = None

    def _put(self, kind: str, values: dict[str, Any]) -> None:
        if self._thread is not None:
            self._queue.put(Operation(kind, self.path, values))

    def _spool(self, line: dict[str, Any]) -> None:
        if self.file is None:
            return
        try:
            with self.file.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as error:
            broken, self.file = self.file, None
            self.say(f"metrics are no longer written to {broken}: {error}")

    def _work(self, destination: Destination) -> None:
        """The thread: gather operations, send them in batches, wait longer after each failure."""
        log = MlflowLog(destination)
        pending: list[Operation] = []
        failures, closing = 0, False
        while True:
            pause = 0.05 if closing else min(60.0, FLUSH_SECONDS * 2**failures)
            self._urgent.wait(pause)
            while not self._queue.empty():
                operation = self._queue.get()
                if operation is None:
                    closing = True
                else:
                    pending.append(operation)
            if len(pending) > PENDING:
                self.dropped += len(pending) - PENDING
                del pending[: len(pending) - PENDING]
            try:
                log.send(pending)
                failures, self.broken = 0, ""
                if self.dropped:
                    self.broken = f"{self.dropped} metrics were dropped while it did not answer"
            except Exception as error:
                failures += 1
                self.broken = _first_line(error)
                if failures == 1 and not closing:
                    self.say(f"MLflow at {destination.uri} does not work, going on without: {self.broken}")
            if closing and (not pending or failures > 1):
                return


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} → {"a.b": 1}"""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{name}."))
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def destination(
    phase: str, *, target: str, by_hand: bool, pipeline_run: str, identity: str
) -> Destination | None:
    """Where this phase reports to: MLFLOW_TRACKING_URI; else mlflow.db of the runs/ folder that it belongs to; else None."""
    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    if not uri:
        runs = _runs_folder(target, by_hand)
        if runs is None:
            return None
        uri = f"sqlite:///{runs.resolve()}/mlflow.db"
    return Destination(
        uri=uri,
        name=phase,
        parent_run=os.environ.get("MLFLOW_RUN_ID", ""),
        pipeline_run=pipeline_run or os.environ.get("FORGE_PIPELINE_RUN", ""),
        identity=identity,
    )


def _runs_folder(target: str, by_hand: bool) -> Path | None:
    if "://" not in target:
        for folder in Path(target).absolute().parents:
            if folder.parent.name == "runs" and (folder / "run.json").is_file():
                return folder.parent
    return Path("runs") if by_hand and Path("runs").is_dir() else None


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().split(chr(10), 1)[0]}"[:300]
