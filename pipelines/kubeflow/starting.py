"""What a run on a cluster starts from: the addresses of models, found in an earlier run, and looked at before it starts."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

from components.shared.runtime.errors import InputError, StoreError
from components.shared.runtime.store.uri import open_store

from ..phases import PHASES
from ..runs.folder import DONE, RunFolder, find
from .server import Server
from .state.run import Watcher
from .state.store import Output, chosen


def of_run(server: Server, phase: str, run: str, runs: Path) -> list[str]:
    """The addresses of the models that `phase` starts from, as the run `run` has made them.

    :param run: a run on this machine where there is one of this name (not for `latest`), else one of Kubeflow.
    :raises InputError: it has none, or no pod can read them.
    """
    if phase == PHASES[0]:
        raise InputError(
            f"phase {phase} starts from base models", where="--run", fix="give --from another phase"
        )
    if run != "latest" and any((folder / "run.json").is_file() for folder in (runs / run, Path(run))):
        return _local(phase, find(runs, run))
    watcher = Watcher.of(server, server.find(run))
    watcher.look()
    before = PHASES[PHASES.index(phase) - 1]
    outputs = [
        Output(pod.title or pod.task, name, address)
        for pod in watcher.pods
        if pod.phase == "Succeeded"
        for name, address in pod.outputs.items()
    ]
    # A result from KFP's cache lies in an older run: only whoever took it knows where.
    taken = [
        Output(f"{before}{name.removeprefix('input_model').replace('_', '-')}", "model", addresses[0])
        for pod in watcher.pods
        if (pod.title or pod.task).startswith(phase)
        for name, addresses in pod.inputs.items()
        if name.startswith("input_model")
    ]
    for known in (outputs, taken):
        with contextlib.suppress(InputError):  # the store knows, or says what is missing
            return chosen(phase, 0, known, where=server.url(watcher.run))
    assert watcher.store is not None
    return watcher.store.model_for(phase, 0)


def check(address: str, say: Callable[[str], None]) -> None:
    """Look whether there is a model at an address, as far as this machine can reach it.

    :raises InputError: pods cannot reach such an address, or nothing is there.
    """
    if "://" not in address:
        raise InputError(
            "a pod cannot read a folder of this machine",
            where=f"--artifact {address}",
            fix="put it into the cluster's object store, and give its s3:// or minio:// address",
        )
    try:
        names = {entry.key for entry in open_store(address).list()}
    except StoreError as error:
        say(f"not looked at from here: {address} ({error.what})")
        return
    if not names & {"forge.json", "config.json"}:
        raise InputError(
            "there is no model at this address",
            where=address,
            why=f"it holds {', '.join(sorted(names)[:4])}" if names else "nothing is there",
            fix="give the folder that holds config.json, as the page of the run that made it shows it",
        )


def _local(phase: str, folder: RunFolder) -> list[str]:
    store = folder.read().store
    if "://" not in store:
        raise InputError(
            "the artifacts of this run are on this machine only, where no pod can read them",
            where=str(folder.path),
            fix="run it with --store s3://…; or upload the model, and give its address with --artifact",
        )
    outputs = [
        Output(status.task.rpartition("/")[2], name, f"{store.rstrip('/')}/{folder.name}/{path}")
        for status in folder.tasks()
        if status.status in DONE
        for name, path in status.outputs.items()
    ]
    return chosen(phase, 0, outputs, where=str(folder.path))
