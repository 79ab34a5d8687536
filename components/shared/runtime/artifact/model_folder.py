"""Whether a folder is that of a model in the Hugging Face layout, and where else the model may lie."""

from __future__ import annotations

from pathlib import Path

from ..errors import ArtifactError

CONFIG = "config.json"


def require_model_folder(folder: Path, *, where: str = "") -> None:
    """Refuse a folder that holds no model.

    :param where: what the folder is called in the error.
    :raises ArtifactError: no config.json; where the folder is a hub's cache, it says which folder in it is the model.
    """
    if (folder / CONFIG).is_file():
        return
    snapshots = sorted(folder.glob(f"snapshots/*/{CONFIG}"))
    raise ArtifactError(
        "not a model directory",
        where=where or str(folder),
        why="it is a hub's cache: the model lies in a snapshot below it"
        if snapshots
        else f"it has no {CONFIG}",
        fix=f"give {snapshots[-1].parent}"
        if snapshots
        else "give an artifact's folder (forge models lists them), or one that save_pretrained has written",
    )
