"""Whose models an artifact was made of: source, revision, licence and digest of each base model, from artifact to artifact.

The list lies in the manifest's `extra` under `base_models`. What a phase makes inherits the lists of all its inputs, the
licence stands in its card, and the texts of the licences travel below `licences/`.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

KEY = "base_models"
CORPORA = "corpora"
LICENCES = "licences"
TEXTS = re.compile(r"(?i)(licen[sc]e|notice|use_policy)[^/]*")
"""Files that say under which terms a model may be used."""


def inherited(extras: Iterable[Mapping[str, Any]], key: str = KEY) -> list[dict[str, Any]]:
    """The base models of several artifacts, each once, in their order.

    :param extras: the `extra` of each artifact's manifest.
    :param key: of another such list, such as that of the corpora that models have read.
    """
    found: list[dict[str, Any]] = []
    for extra in extras:
        listed = extra.get(key)
        for base in listed if isinstance(listed, list) else []:
            if isinstance(base, dict) and base not in found:
                found.append(base)
    return found


def licence_of_card(folder: Path) -> str:
    """The licence that the card beside a model names in its head (YAML between two lines ---), or ""."""
    card = folder / "README.md"
    if not card.is_file():
        return ""
    head = card.read_text(encoding="utf-8", errors="replace").split("\n---", 1)[0]
    if not head.startswith("---"):
        return ""
    try:
        content = yaml.safe_load(head.removeprefix("---"))
    except yaml.YAMLError:
        return ""  # a card is prose: one that nobody can parse says nothing of a licence
    if not isinstance(content, dict):
        return ""
    licence = content.get("license_name") if content.get("license") == "other" else content.get("license")
    return licence if isinstance(licence, str) else ""


def in_card(text: str, bases: Sequence[Mapping[str, Any]]) -> str:
    """A model card that names the base models and their licences; the same text where there are none.

    :param text: with or without a head between two lines ---.
    """
    if not bases:
        return text
    licences = list(dict.fromkeys(str(base.get("licence") or "unknown") for base in bases))
    line = f"license: {licences[0] if len(licences) == 1 and licences[0] != 'unknown' else 'other'}\n"
    if text.startswith("---\n") and "\nlicense:" not in text.partition("\n---")[0]:
        text = "---\n" + line + text.removeprefix("---\n")
    rows = "".join(
        f"| {base.get('source', '')} | {base.get('revision') or str(base.get('digest', ''))[:12]} |"
        f" {base.get('licence') or 'unknown'} |\n"
        for base in bases
    )
    return f"{text.rstrip()}\n\n## Base models\n\n| model | revision | licence |\n|---|---|---|\n{rows}"


def carry_licences(inputs: Iterable[tuple[Path, Mapping[str, Any]]], output: Path) -> None:
    """Copy the licence texts of the inputs below `licences/` of what was made of them.

    :param inputs: folder and `extra` of each input; one that is no base model's work carries none.
    """
    for folder, extra in inputs:
        bases = inherited([extra])
        if not bases:
            continue
        name = re.sub(r"[^\w.-]+", "--", str(bases[0].get("source", "model"))).strip(".-") or "model"
        texts = {f"{name}/{path.name}": path for path in folder.iterdir() if TEXTS.fullmatch(path.name)}
        earlier = folder / LICENCES
        if earlier.is_dir():
            texts |= {
                path.relative_to(earlier).as_posix(): path for path in earlier.rglob("*") if path.is_file()
            }
        for place, path in sorted(texts.items()):
            target = output / LICENCES / place
            if path.is_file() and not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)
