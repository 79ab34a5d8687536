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
from .mapped_model import MappedModel
from .recipe import Filtered, ParameterValue, Recipe
from .vocabulary import Vocabulary

TOKENIZER = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt",
    "tokenizer.model", "chat_template.jinja",
)  # fmt: skip


def write(
    folder: Path,
    recipe: Recipe,
    first: MappedModel,
    reference: MappedModel,
    vocabulary: Vocabulary | None,
    *,
    dtype: str,
    parameters: int,
    notes: list[str],
) -> None:
    """Write all of a merged model's folder but its weights.

    :param folder: where.
    :param first: whose configuration is taken.
    :param reference: whose tokenizer is taken.
    :param vocabulary: the merged one, where vocabularies differ.
    :param dtype: of the weights, in torch's words.
    :param parameters: how many the merged model has.
    :param notes: warnings for the card.
    """
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
    method = recipe.merge_method
    facts = {
        "method": f"[{method.pretty_name}]({method.paper})",
        "models": ", ".join(name_and_digest(model.folder) for model in recipe.models),
        "base": name_and_digest(recipe.base) if recipe.base else "none",
        "parameters": f"{parameters:,}",
    }
    text = model_card("Merged model", "Made by `forge merge` from the models below.", facts=facts)
    recipe_text = yaml.safe_dump(described(recipe), sort_keys=False, allow_unicode=True)
    warnings = "".join(f"- {note}\n" for note in notes)
    return f"{text}\n## Recipe\n\n```yaml\n{recipe_text}```\n" + (
        f"\n## Warnings\n\n{warnings}" if warnings else ""
    )


def name_and_digest(folder: Path) -> str:
    """A model's folder, and the beginning of its digest where it has one."""
    manifest = folder / MANIFEST
    name = folder.resolve().name
    return f"{name} ({json.loads(manifest.read_text())['digest'][:12]})" if manifest.is_file() else name


def described(recipe: Recipe) -> dict[str, Any]:
    """The recipe as plain YAML."""

    def plain(value: ParameterValue) -> Any:
        if isinstance(value, (int, float)):
            return value
        return [{"filter": v.text, "value": v.value} if isinstance(v, Filtered) else v for v in value]

    def numbers(values: Any) -> dict[str, Any]:
        return {key: plain(value) for key, value in values.items()}

    content: dict[str, Any] = {
        "merge_method": recipe.method,
        "models": [
            {"model": name_and_digest(model.folder), "parameters": numbers(model.parameters)}
            for model in recipe.models
        ],
        "base_model": name_and_digest(recipe.base) if recipe.base else None,
        "parameters": numbers(recipe.parameters),
        "seed": recipe.seed,
        "trim": recipe.trim,
        "tokenizer": recipe.tokenizer,
    }
    if recipe.blocks:
        content["layers"] = [
            {
                "range": [block.first, block.last],
                "parameters": numbers(block.parameters),
                "models": [*map(numbers, block.own)],
            }
            for block in recipe.blocks
        ]
    return content
