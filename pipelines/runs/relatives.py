"""The models of a run that another of its models comes from: the one before its phase, and the one that it began with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.shared.assessment.assessment import Kind
from components.shared.evaluation.overall import overall

from .folder import RunFolder
from .published import manifest_of

Manifests = Mapping[str, Mapping[str, Any]]
"""The models of a run: digest → manifest as plain JSON."""


def label_of(manifest: Mapping[str, Any]) -> str:
    """What a model of a run is called: its phase, and its variant where it has one."""
    return " ".join(filter(None, (manifest["phase"], manifest["extra"].get("variant", ""))))


def relatives(models: Manifests, digest: str) -> dict[Kind, str]:
    """The digests of `before`, and of `base` where it is another, of a model among the models of its run.

    Of several parents the one with the best overall score stands for all, which is the hardest to beat.
    """
    before = _best_parent(models, digest)
    if before is None:
        return {}
    base, seen = before, {digest, before}
    while (further := _best_parent(models, base)) and further not in seen:
        seen.add(further)
        base = further
    return {"base": base} if base == before else {"before": before, "base": base}


def _best_parent(models: Manifests, digest: str) -> str | None:
    parents = models[digest]["parents"] if digest in models else []
    return max(
        (parent for parent in parents if parent in models),
        key=lambda each: _worth(models[each]),
        default=None,
    )


def _worth(manifest: Mapping[str, Any]) -> float:
    total = overall(manifest["scores"])
    return total.score if total else float("-inf")


def relatives_of(folder: Path) -> dict[Kind, Path]:
    """The folders of a model's relatives; none where it is in no run's folder.

    :raises ArtifactError: a manifest of the run is damaged.
    """
    run = next((parent for parent in folder.resolve().parents if (parent / "run.json").is_file()), None)
    if run is None:
        return {}
    places = [run / output for status in RunFolder(run).tasks() for output in status.outputs.values()]
    made = {place: manifest for place in places if (manifest := manifest_of(place)).get("kind") == "model"}
    where = {manifest["digest"]: place for place, manifest in made.items()}
    models = {manifest["digest"]: manifest for manifest in made.values()}
    found = relatives(models, manifest_of(folder).get("digest", ""))
    return {kind: where[digest] for kind, digest in found.items()}
