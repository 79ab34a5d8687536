"""Which models may be merged, as far as their manifests and configurations tell, without loading one."""

from __future__ import annotations

import json
from collections.abc import Sequence

from components.shared.runtime.artifact.artifact import Artifact
from components.shared.runtime.errors import InputError


def names_of(artifacts: Sequence[Artifact]) -> list[str]:
    """The variant of each parent where it says so, else its number."""
    return [
        str(artifact.manifest.extra.get("variant", f"parent {i}")) for i, artifact in enumerate(artifacts)
    ]


def check(artifacts: Sequence[Artifact]) -> None:
    """Refuse, from configurations and manifests alone, what cannot be merged.

    :raises InputError: fewer than two models, different architectures or vocabularies, unreadable configurations.
    """
    if len(artifacts) < 2:
        raise InputError(
            f"merging takes two or more models, and {len(artifacts)} is given",
            where="input models",
            fix="give each with --input: --input A --input B",
        )
    first = _config(artifacts[0])
    for artifact in artifacts[1:]:
        other = _config(artifact)
        for key, meaning in (
            ("model_type", "architectures"),
            ("vocab_size", "vocabularies"),
            ("hidden_size", "widths"),
            ("num_hidden_layers", "depths"),
        ):
            if first.get(key) != other.get(key):
                raise InputError(
                    f"the models have different {meaning}",
                    where=str(artifact.path / "config.json"),
                    why=f"{key} is {other.get(key)!r}, and {first.get(key)!r} in model 0",
                    fix="merge variants of one model",
                )


def _config(artifact: Artifact) -> dict[str, object]:
    try:
        return dict(json.loads((artifact.path / "config.json").read_text()))
    except (OSError, ValueError) as error:
        raise InputError(
            "this is no model", where=str(artifact.path), why=str(error), fix="give model artifacts"
        ) from error
