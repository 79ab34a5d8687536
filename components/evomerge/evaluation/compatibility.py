"""Which models may be merged, as far as their manifests and configurations tell, without loading one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from components.shared.runtime.artifact.artifact import Artifact
from components.shared.runtime.errors import InputError

TOKENIZER = "tokenizer.json"


def names_of(artifacts: Sequence[Artifact]) -> list[str]:
    """The variant of each parent where it says so, else its number."""
    return [
        str(artifact.manifest.extra.get("variant", f"parent {i}")) for i, artifact in enumerate(artifacts)
    ]


def check(artifacts: Sequence[Artifact]) -> None:
    """Refuse, from configurations, tokenizers and manifests alone, what cannot be merged.

    :raises InputError: fewer than two models, different architectures or tokenizers, unreadable configurations.
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
        if first.get("vocab_size") != other.get("vocab_size"):
            one_tokenizer(artifacts[0].path, artifact.path)


def one_tokenizer(first: Path, other: Path) -> None:
    """Refuse models whose tokenizers differ in more than added tokens: the same text would be other tokens to them.

    :raises InputError: they do, or one has no tokenizer.json that says.
    """
    a, b = _ordinary(first), _ordinary(other)
    if a is None or b is None or a != b:
        bare = next((folder for folder, own in ((first, a), (other, b)) if own is None), None)
        raise InputError(
            "the models have different vocabularies",
            where=str(bare or other),
            why=f"there is no {TOKENIZER} to tell how they differ" if bare else _difference(a, b),
            fix="merge models with one tokenizer; added tokens may differ",
        )


def _ordinary(folder: Path) -> dict[str, Any] | None:
    """A tokenizer's tokens and merges, without what was added to it; None where no file says."""
    try:
        whole = json.loads((folder / TOKENIZER).read_text(encoding="utf-8"))
        added = {token["content"] for token in whole.get("added_tokens") or []}
        model = {part: whole["model"].get(part) for part in ("vocab", "merges")}
        if isinstance(model.get("vocab"), dict):
            model["vocab"] = {token: row for token, row in model["vocab"].items() if token not in added}
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return model


def _difference(a: dict[str, Any] | None, b: dict[str, Any] | None) -> str:
    """In how many tokens two tokenizers differ."""
    one, other = ((model or {}).get("vocab") for model in (a, b))
    if isinstance(one, dict) and isinstance(other, dict) and one != other:
        odd = {token for token, _ in one.items() ^ other.items()}
        return f"{len(odd)} ordinary tokens differ, such as {', '.join(map(repr, sorted(odd)[:3]))}"
    return "their tokenizers split text differently"


def _config(artifact: Artifact) -> dict[str, object]:
    """The configuration; of a wrapped model that of the model inside."""
    try:
        config = dict(json.loads((artifact.path / "config.json").read_text()))
        inner = config.get("inner")
        return dict(inner) if isinstance(inner, dict) else config
    except (OSError, ValueError) as error:
        raise InputError(
            "this is no model", where=str(artifact.path), why=str(error), fix="give model artifacts"
        ) from error
