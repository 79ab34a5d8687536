"""What a merged model's folder holds beside the weights: configuration, tokenizer, card."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import yaml

from components.shared.models.card import model_card
from components.shared.runtime.artifact.manifest import MANIFEST

from . import vocabulary as vocabularies
from .checkpoint import Checkpoint
from .recipe import Filtered, Recipe, Setting
from .vocabulary import Vocabulary

TOKENIZER = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt",
    "tokenizer.model", "chat_template.jinja",
)  # fmt: skip


def write(
    folder: Path,
    recipe: Recipe,
    first: Checkpoint,
    reference: Checkpoint,
    vocabulary: Vocabulary | None,
    *,
    dtype: str,
    parameters: int,
    notes: list[str],
) -> None:
    """first: whose configuration is taken; reference: whose tokenizer."""
    config = {
        key: value for key, value in first.config.items() if key not in ("_name_or_path", "torch_dtype")
    }
    config["dtype"] = dtype
    if vocabulary is not None:
        config["vocab_size"] = vocabulary.rows
    (folder / "config.json").write_text(json.dumps(config, indent=1, sort_keys=True) + "\n")
    for source, names in (
        (reference.folder, TOKENIZER),
        (first.folder, ("generation_config.json", *(p.name for p in first.folder.glob("*.py")))),
    ):
        for name in names:
            if (source / name).is_file():
                shutil.copyfile(source / name, folder / name)
    if vocabulary is not None and vocabulary.added:
        vocabularies.save(vocabulary, reference.folder, folder)
    (folder / "README.md").write_text(card(recipe, parameters, notes))


def card(recipe: Recipe, parameters: int, notes: list[str]) -> str:
    """A model card that holds the recipe. Models are named by their folders and, where they have one, their digest."""
    method = recipe.streamed
    facts = {
        "method": f"[{method.pretty_name}]({method.reference})",
        "models": ", ".join(named(entry.place) for entry in recipe.entries),
        "base": named(recipe.base) if recipe.base else "none",
        "parameters": f"{parameters:,}",
    }
    text = model_card("Merged model", "Made by `forge merge` from the models below.", facts=facts)
    recipe_text = yaml.safe_dump(described(recipe), sort_keys=False, allow_unicode=True)
    said = "".join(f"- {note}\n" for note in notes)
    return f"{text}\n## Recipe\n\n```yaml\n{recipe_text}```\n" + (f"\n## Warnings\n\n{said}" if said else "")


def named(place: Path) -> str:
    manifest = place / MANIFEST
    name = place.resolve().name
    return f"{name} ({json.loads(manifest.read_text())['digest'][:12]})" if manifest.is_file() else name


def described(recipe: Recipe) -> dict[str, Any]:
    """The recipe as plain YAML."""

    def plain(setting: Setting) -> Any:
        if isinstance(setting, (int, float)):
            return setting
        return [{"filter": s.text, "value": s.value} if isinstance(s, Filtered) else s for s in setting]

    def numbers(settings: Any) -> dict[str, Any]:
        return {key: plain(value) for key, value in settings.items()}

    found: dict[str, Any] = {
        "merge_method": recipe.method,
        "models": [
            {"model": named(entry.place), "parameters": numbers(entry.settings)} for entry in recipe.entries
        ],
        "base_model": named(recipe.base) if recipe.base else None,
        "parameters": numbers(recipe.settings),
        "seed": recipe.seed,
        "trim": recipe.trim,
        "tokenizer": recipe.tokenizer,
    }
    if recipe.blocks:
        found["layers"] = [
            {
                "range": [one.first, one.last],
                "parameters": numbers(one.settings),
                "models": [*map(numbers, one.own)],
            }
            for one in recipe.blocks
        ]
    return found
