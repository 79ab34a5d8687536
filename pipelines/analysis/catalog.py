"""The artifacts of all runs below a folder or a store's address, from their manifests alone: no weight is read."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from components.shared.runtime.artifact.manifest import MANIFEST, Manifest, decode
from components.shared.runtime.errors import ArtifactError, ConfigError, InputError, StoreError
from components.shared.runtime.store.interface import TRANSFERS, Store
from components.shared.runtime.store.uri import open_store
from components.shared.runtime.wording import did_you_mean

from ..phases import PHASES

Order = Literal["run", "bytes", "parameters", "score"]

LOCAL = re.compile(r"(?:(?P<run>[^/]+)/)?artifacts/(?P<task>.+)/[^/]+/")
"""`<run>/artifacts/<task>/<output>/`, as a run on a machine writes it, also into its store."""

UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
KUBEFLOW = re.compile(rf"(?:.*?/)?(?P<run>{UUID})/(?P<task>[^/]+)/{UUID}/[^/]+/")
"""`<run id>/<task>/<execution id>/<output>/`, as KFP's launcher writes it below a run's root."""


@dataclass(frozen=True)
class ModelRecord:
    """An artifact, as its manifest has it.

    :param run: the run's name, or its id on Kubeflow; "" where the address does not tell.
    :param variant: of a cognate; "" for all others.
    :param address: its folder, or its place in the store.
    :param parents: digests of what it was made from.
    :param bytes: of all its files, the manifest not counted.
    :param scores: mean score by suite, on the report split, each in [0, 1].
    :param finished: Unix seconds; 0 where the manifest does not say.
    """

    run: str
    task: str
    phase: str
    kind: str
    variant: str
    address: str
    digest: str
    parents: list[str]
    parameters: int
    bytes: int
    scores: dict[str, float]
    finished: float

    @property
    def score(self) -> float | None:
        """The mean over the suites; None where nothing was scored."""
        return sum(self.scores.values()) / len(self.scores) if self.scores else None


@dataclass(frozen=True)
class Catalog:
    """The artifacts that were found, and what was said of those that cannot be read."""

    models: list[ModelRecord] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)


def catalog(
    address: str | Path,
    *,
    run: str = "",
    phase: str = "",
    kinds: tuple[str, ...] = ("model",),
    order: Order = "run",
) -> Catalog:
    """The artifacts below a runs folder, a single run's folder, or an address of a store.

    :param run: only of this run; "latest" is the run that has finished an artifact last.
    :param phase: only what this phase has made.
    :param kinds: of the manifests: model, trunk, population.
    :param order: "run": runs by their newest artifact, in each the order of making; else largest, or best, first.
    :raises InputError: there is no such folder, or no such run in it.
    :raises ConfigError: an unknown phase.
    :raises StoreError: the store cannot be reached.
    """
    if phase and phase not in PHASES:
        raise ConfigError(f"there is no phase {phase!r}", where="--phase", fix=did_you_mean(phase, PHASES))
    text = str(address)
    every, damaged = _store(open_store(text)) if "://" in text else _folder(Path(text))
    models = [record for record in every if record.kind in kinds]
    newest: dict[str, float] = {}
    for record in models:
        newest[record.run] = max(newest.get(record.run, 0.0), record.finished)
    if run == "latest" and newest:
        run = max(newest, key=lambda name: newest[name])
    if run and run not in newest:
        known = sorted(newest, key=lambda name: newest[name])[-8:]
        raise InputError(
            f"no run {run!r} has made a model here", where=text,
            fix=did_you_mean(run, known, none="forge run-pipeline makes some"),
        )  # fmt: skip
    models = [record for record in models if run in ("", record.run) and phase in ("", record.phase)]
    return Catalog(sorted(models, key=_sort_key(order, newest)), damaged)


def _sort_key(order: Order, newest: dict[str, float]) -> Callable[[ModelRecord], Any]:
    if order == "bytes":
        return lambda record: (-record.bytes, record.address)
    if order == "parameters":
        return lambda record: (-record.parameters, record.address)
    if order == "score":
        return lambda record: (-1.0 if record.score is None else -record.score - 1, record.address)
    return lambda record: (newest[record.run], record.run, record.finished, record.address)


def _folder(root: Path) -> tuple[list[ModelRecord], list[str]]:
    if not root.is_dir():
        raise InputError(
            "there is no such folder",
            where=str(root),
            fix="give a runs folder, or start a run: forge run-pipeline",
        )
    root = root.resolve()
    base = (
        root.parent if (root / "run.json").is_file() else root
    )  # a run's own folder: its name is in the keys
    models, damaged = [], []
    for path in _manifests(root):
        key = path.relative_to(base).as_posix()
        try:
            models.append(_record(decode(path.read_bytes(), str(path)), key, str(path.parent)))
        except (ArtifactError, OSError) as error:
            damaged.append(str(error))
    return models, damaged


def _manifests(root: Path) -> Iterator[Path]:
    """The manifests of the runs in a folder; where it holds no run's folder, all that there are.

    Beside runs lie other copies of models, such as MLflow's. Nothing below an artifact or in a hidden folder counts.
    """
    runs = [path.parent for path in (*root.glob("run.json"), *root.glob("*/run.json"))]
    for top in sorted(run / "artifacts" for run in runs) if runs else [root]:
        for folder, folders, files in os.walk(top):
            if MANIFEST in files:
                folders.clear()
                yield Path(folder, MANIFEST)
            folders[:] = sorted(name for name in folders if not name.startswith("."))


def _store(store: Store) -> tuple[list[ModelRecord], list[str]]:
    keys = [entry.key for entry in store.list() if entry.key.rpartition("/")[2] == MANIFEST]

    def read(key: str) -> ModelRecord | str:
        try:
            text = store.get(key)
            return _record(decode(text, store.address(key)), key, store.address(key.rpartition("/")[0]))
        except (ArtifactError, StoreError) as error:
            return str(error)

    with ThreadPoolExecutor(TRANSFERS) as pool:
        records = list(pool.map(read, keys))
    damaged = [record for record in records if isinstance(record, str)]
    return [record for record in records if isinstance(record, ModelRecord)], damaged


def _record(manifest: Manifest, key: str, address: str) -> ModelRecord:
    path = KUBEFLOW.match(key) or LOCAL.match(key)
    timing = manifest.timing
    return ModelRecord(
        run=(path["run"] or "") if path else "",
        task=path["task"] if path else "",
        phase=manifest.phase,
        kind=manifest.kind,
        variant=str(manifest.extra.get("variant") or ""),
        address=address,
        digest=manifest.digest,
        parents=manifest.parents,
        parameters=manifest.parameters,
        bytes=manifest.bytes,
        scores={suite: float(score["score"]) for suite, score in manifest.scores.items()},
        finished=float(timing.get("started") or 0.0) + float(timing.get("seconds") or 0.0),
    )


def to_json(records: Catalog) -> dict[str, Any]:
    """The catalog as plain JSON: {"models": [{run, task, phase, …, score}], "damaged": [text]}."""
    return {
        "models": [{**vars(record)} | {"score": record.score} for record in records.models],
        "damaged": records.damaged,
    }
