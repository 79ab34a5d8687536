"""The log of a task that has told nothing: from KFP, from its pod, or from its run's folder."""

from __future__ import annotations

import logging
from typing import Literal

from components.shared.runtime.errors import ForgeError
from components.shared.runtime.store.interface import is_safe_name

from ...kubeflow.state.logs import log_of
from ...kubeflow.state.pods import problem
from ...runs.folder import RunFolder
from ..settings import ControlSettings
from .kubeflow_submission import watcher_of
from .strip import Row

log = logging.getLogger("forge.control")

LARGEST = 64 << 20
"""Bytes of a file of which more is not read: its end."""

Source = Literal["kfp", "pod", "folder", "none"]


def read(settings: ControlSettings, row: Row, task: str, attempt: int) -> tuple[Source, list[str]]:
    """Who has a log, and its lines. Not for an event loop.

    :param row: of the run.
    :param attempt: counted from 1; 0 for the last one.
    """
    if row["target"] == "kubeflow":
        return (
            _of_kubeflow(settings, row, task, attempt)
            if row["kfp_id"] and settings.kfp_host
            else ("none", [])
        )
    if not is_safe_name(task) or not row["folder"]:
        return "none", []
    path = RunFolder(settings.runs.absolute() / row["id"]).task(task).log
    if not path.is_file():
        return "none", []
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - LARGEST))
        return "folder", file.read().decode(errors="replace").splitlines()


def _of_kubeflow(settings: ControlSettings, row: Row, task: str, attempt: int) -> tuple[Source, list[str]]:
    watcher = watcher_of(settings, row)
    try:
        watcher.look()
        if watcher.store is not None and (text := watcher.store.log(task, attempt)):
            return "kfp", text.splitlines()
        pods = [pod for pod in watcher.living if task in (pod.title, pod.task)]
        if attempt:
            pods = [pod for pod in pods if pod.attempt == attempt - 1]
        if watcher.kubernetes is not None and pods:
            return "pod", list(watcher.kubernetes.log(pods[-1]))
        if not attempt:
            return "kfp", list(log_of(watcher, task))
    except ForgeError as error:
        log.info("there is no log of %s in %s: %s", task, row["id"], error)
    except Exception as error:  # whatever a cluster, its proxy or its certificates answer
        log.warning("the log of %s in %s cannot be read: %s", task, row["id"], problem(error))
    return "none", []
