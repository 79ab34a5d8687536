"""Runs as they lie on disk, made of small artifacts and of what phases write beside them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from components.shared.runtime.artifact.artifact import seal
from components.shared.runtime.artifact.manifest import Manifest, encode
from components.shared.runtime.store import sealed_json
from pipelines.runs.folder import RunFolder, RunStatus, TaskStatus, write_json


def artifact(folder: Path, phase: str, *, value: float = 1.0, **known: Any) -> Manifest:
    """A model of twelve parameters."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"hidden_size": 4}))
    save_file({"a.weight": np.full((3, 4), value, np.float32)}, folder / "model.safetensors")
    return seal(folder, **{"kind": "model", "phase": phase, **known})


def run(runs: Path, name: str, started: float, status: Any = "succeeded") -> RunFolder:
    """A run without tasks."""
    folder = RunFolder(runs / name)
    folder.write(RunStatus(name, status, started, started + 9))
    return folder


def task(
    folder: RunFolder,
    name: str,
    *,
    phase: str = "",
    status: Any = "succeeded",
    curves: list[Mapping[str, Any]] | None = None,
    **known: Any,
) -> Manifest | None:
    """A task of a run; where it succeeded with its artifact and its record.

    :param curves: the record's lines.
    :param known: of the artifact's manifest.
    """
    phase = phase or name
    started = folder.read().started
    outputs, manifest = {}, None
    if status in ("succeeded", "cached"):
        place = folder.task(name)
        known.setdefault("timing", {"started": started, "seconds": 1.0})
        manifest = artifact(place.output("model"), phase, **known)
        write_json(
            place.output("metrics"), {"manifest": json.loads(encode(manifest)), "curves": curves or []}
        )
        outputs = {output: folder.relative(place.output(output)) for output in ("model", "metrics")}
    folder.task(name).write(TaskStatus(name, phase, name, status=status, started=started, outputs=outputs))
    return manifest


STAGES = ["adaptation 1", "edge of chaos 1", "dreaming 1"]
KINDS = ["adaptation", "edge_of_chaos", "dreaming"]


def results(*, series: bool, strength: float = 0.0) -> list[dict[str, Any]]:
    """Three stages, the last one undone.

    :param strength: Grokfast's λ.
    :param series: as in a checkpoint, with the curves of each stage; else as in a manifest.
    """
    whole = [
        {
            "stage": STAGES[number],
            "kind": KINDS[number],
            "kept": number < 2,
            "steps": 2,
            "learning_rate": 0.01,
            "grokfast_lambda": strength,
            "train_loss_before": 3.0 - number,
            "train_loss_after": 2.0 - number,
            "held_out_loss_before": 3.0 - number,
            "held_out_loss_after": 2.0 - number if number < 2 else 4.0,
            "regime": "generalising" if number < 2 else "diverging",
            "intrinsic_dimension": 2.0 + number,
            "intrinsic_dimension_share": (2.0 + number) / 4,
            "weight_spread": 0.1,
            "loss": [4.0, 3.0],
            "success": [0.5, 0.7],
            "unsteered": [],
        }
        for number in range(3)
    ]
    kept = ("loss", "success", "unsteered")
    return whole if series else [{k: v for k, v in one.items() if k not in kept} for one in whole]


def settings(grokfast: dict[str, float] | None) -> dict[str, Any]:
    """Of phase training, as a manifest has them."""
    stages = [{"name": name, "kind": kind, "steps": 2} for name, kind in zip(STAGES, KINDS, strict=True)]
    return {"stages": stages, "grokfast": grokfast, "band": {"low": 0.55, "high": 0.75}}


def trained(grokfast: dict[str, float] | None = None) -> dict[str, Any]:
    """What the manifest of a training says beyond that of any artifact."""
    curves = {
        "loss through the ten stages": _curve("nats a token", train=[4.0, 3.0] * 3),
        "success rate": _curve("share right", **{"fresh items": [0.5, 0.7] * 3}),
        "geometry": _curve("TwoNN", **{"intrinsic dimension": [2.0, 3.0, 4.0]}),
    }
    stages = results(series=False, strength=grokfast["strength"] if grokfast else 0.0)
    return {
        "config": {"training": settings(grokfast)},
        "metrics": {"held_out_loss": 1.0},
        "extra": {"stages": stages, "regime": "generalising", "curves": curves},
    }


def _curve(ylabel: str, **series: list[float]) -> dict[str, Any]:
    x = list(range(1, len(next(iter(series.values()))) + 1))
    return {"x": x, "xlabel": "step", "ylabel": ylabel, "series": series}


def checkpoint(folder: Path, state: Mapping[str, Any], *, number: int = 1) -> Path:
    """A checkpoint's state as the runtime writes it, without the tensors beside it."""
    place = folder / f"{number:06d}-step-{number:08d}"
    place.mkdir(parents=True)
    header = {"format": 1, "identity": "x", "step": number, "sha256": "", "same": {}, "mark": 0}
    (place / "state.json").write_bytes(sealed_json.encode(header | {"state": dict(state)}))
    return place
