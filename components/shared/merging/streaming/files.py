"""What a merged model's folder holds beside the weights: configuration, tokenizer, card."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from components.shared.models.card import model_card
from components.shared.runtime.artifact.base_models import (
    KEY,
    carry_licences,
    in_card,
    inherited,
    licence_of_card,
)
from components.shared.runtime.artifact.manifest import MANIFEST, decode
from components.shared.runtime.artifact.weights import json_object

from ..checkpoint import families
from ..checkpoint.mapped_model import MappedModel
from . import vocabulary as vocabularies
from .plan import Plan
from .recipe import Filtered, LayerBlock, ParameterValue, Recipe, RecipeModel, TokenizerRecipe

TOKENIZER = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt",
    "tokenizer.model", "chat_template.jinja",
)  # fmt: skip
TEMPLATE = "chat_template.jinja"
DEPTH = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")


def write(folder: Path, plan: Plan, *, dtype: str, parameters: int, notes: list[str]) -> None:
    """Write all of a merged model's folder but its weights.

    :param folder: where.
    :param plan: of the merge; the first model's configuration is taken.
    :param dtype: of most weights, in torch's words.
    :param parameters: how many the merged model has.
    :param notes: warnings for the card.
    """
    first, tokenizer = plan.models[0], tokenizer_folder(plan)
    (folder / "config.json").write_text(
        json.dumps(configuration(plan, dtype), indent=1, sort_keys=True) + "\n"
    )
    for source, names in (
        (tokenizer, TOKENIZER),
        (first.folder, ("generation_config.json", *(p.name for p in first.folder.glob("*.py")))),
    ):
        for name in names:
            if (source / name).is_file():
                shutil.copyfile(source / name, folder / name)
    if plan.vocabulary is not None and plan.vocabulary.added:
        vocabularies.save(plan.vocabulary, folder)
    if template := plan.recipe.tokenizer.chat_template:
        _set_template(folder, template, plan.models)
    folders = [model.folder for model in plan.recipe.models] + (
        [plan.recipe.base] if plan.recipe.base else []
    )
    parents = {parent: {KEY: terms_of(parent)} for parent in folders}
    text = in_card(card(plan.recipe, parameters, notes), inherited(parents.values()))
    (folder / "README.md").write_text(text)
    carry_licences(parents.items(), folder)


def tokenizer_folder(plan: Plan) -> Path:
    """Whose tokenizer is taken: the recipe's choice, the base's, or the first model's."""
    wanted = plan.recipe.tokenizer
    if isinstance(wanted.source, Path):
        return wanted.source
    return wanted.base or plan.recipe.base or plan.models[0].folder


def configuration(plan: Plan, dtype: str) -> dict[str, Any]:
    """The first model's, with what the merge changed: type, rows of the embedding, depth, the output layer."""
    config = json.loads(json.dumps(plan.models[0].config))
    for key in ("_name_or_path", "torch_dtype"):
        config.pop(key, None)
    config["dtype"] = dtype
    text = families.text_config(config)
    if plan.vocabulary is not None:
        text["vocab_size"] = plan.vocabulary.rows
    if plan.unties:
        for part in (config, text):
            part["tie_word_embeddings"] = False
    before = plan.stacks[0].count
    if plan.recipe.blocks and plan.origins() != list(range(before)):
        for key, value in text.items():
            if key in DEPTH and value == before:
                text[key] = plan.layers
            elif "layer" in key and isinstance(value, list) and len(value) == before:
                text[key] = [value[layer] if layer < before else value[-1] for layer in plan.origins()]
    return dict(config)


def _set_template(folder: Path, template: str, models: Sequence[MappedModel]) -> None:
    """Write the chat template, and take away the one that the tokenizer's configuration has."""
    if template == "auto":
        known = [text for model in models if (text := _template(model.folder))]
        if not known:
            return
        template = Counter(known).most_common(1)[0][0]
    (folder / TEMPLATE).write_text(template, encoding="utf-8")
    path = folder / "tokenizer_config.json"
    if path.is_file():
        settings = json_object(path)
        if settings.pop("chat_template", None) is not None:
            path.write_text(json.dumps(settings, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _template(folder: Path) -> str:
    """A model's own chat template, or ""."""
    if (folder / TEMPLATE).is_file():
        return (folder / TEMPLATE).read_text(encoding="utf-8").strip()
    path = folder / "tokenizer_config.json"
    own = json_object(path).get("chat_template") if path.is_file() else None
    if isinstance(own, list):  # several, by name
        named = [entry for entry in own if isinstance(entry, dict)]
        own = next((entry.get("template") for entry in named if entry.get("name") == "default"), None)
    return own.strip() if isinstance(own, str) else ""


def card(recipe: Recipe, parameters: int, notes: list[str]) -> str:
    """A model card that holds the recipe. Models are named by their folders and, where they have one, their digest."""
    method = recipe.merge_method
    facts = {
        "method": f"[{method.pretty_name}]({method.paper})",
        "models": ", ".join(_named(model) for model in recipe.models),
        "base": name_and_digest(recipe.base) if recipe.base else "none",
        "parameters": f"{parameters:,}",
    }
    text = model_card("Merged model", "Made by `forge merge` from the models below.", facts=facts)
    recipe_text = yaml.safe_dump(described(recipe), sort_keys=False, allow_unicode=True)
    warnings = "".join(f"- {note}\n" for note in notes)
    return f"{text}\n## Recipe\n\n```yaml\n{recipe_text}```\n" + (
        f"\n## Warnings\n\n{warnings}" if warnings else ""
    )


def terms_of(folder: Path) -> list[dict[str, Any]]:
    """Whose models a parent is made of, with their licences: as its manifest says, else as its card and its place do."""
    manifest = folder / MANIFEST
    if manifest.is_file() and (known := inherited([decode(manifest.read_bytes(), str(manifest)).extra])):
        return known
    place = folder.resolve()
    cache = place.parent.parent.name.removeprefix("models--")
    if place.parent.name == "snapshots":  # the hub's cache
        return [
            {"source": cache.replace("--", "/"), "revision": place.name, "licence": licence_of_card(folder)}
        ]
    return [{"source": place.name, "licence": licence_of_card(folder)}]


def name_and_digest(folder: Path) -> str:
    """A model's folder, and the beginning of its digest where it has one."""
    manifest = folder / MANIFEST
    name = folder.resolve().name
    if not manifest.is_file():
        return name
    return f"{name} ({decode(manifest.read_bytes(), str(manifest)).digest[:12]})"


def _origin(recipe: Recipe, block: LayerBlock) -> dict[str, Any]:
    """From which layers of which models a block is merged, where that is not the same everywhere."""
    if not block.starts:
        return {}
    count = block.last - block.first
    sources = zip(recipe.parents_of(block), block.starts, strict=True)
    return {
        "from": [f"{_named(recipe.models[number])}: {start} to {start + count}" for number, start in sources]
    }


def _named(model: RecipeModel) -> str:
    """The model, and what is added to it."""
    return name_and_digest(model.folder) + (f" + {name_and_digest(model.lora)}" if model.lora else "")


def _tokenizer(wanted: TokenizerRecipe) -> Any:
    source = name_and_digest(wanted.source) if isinstance(wanted.source, Path) else wanted.source
    if not (wanted.tokens or wanted.multiple):
        return source
    rules = {
        token: {
            "model": name_and_digest(row.model) if row.model else "zeros",
            "token": row.token or token,
            "force": row.force,
        }
        for token, row in wanted.tokens.items()
    }
    return {"source": source, "tokens": rules, "pad_to_multiple_of": wanted.multiple}


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
            {"model": _named(model), "parameters": numbers(model.parameters)} for model in recipe.models
        ],
        "base_model": name_and_digest(recipe.base) if recipe.base else None,
        "parameters": numbers(recipe.parameters),
        "seed": recipe.seed,
        "trim": recipe.trim,
        "tokenizer": _tokenizer(recipe.tokenizer),
    }
    if recipe.blocks:
        content["layers"] = [
            {
                "range": [block.first, block.last],
                **_origin(recipe, block),
                "parameters": numbers(block.parameters),
                "models": [*map(numbers, block.own)],
            }
            for block in recipe.blocks
        ]
    return content
