"""Corpora of the tests' own, prepared in a folder of their own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Write documents as lines of JSON into a file of the folder that is returned."""
    monkeypatch.setenv("FORGE_CORPORA", str(tmp_path / "prepared"))

    def write(documents: list[str], name: str = "a.jsonl") -> Path:
        folder = tmp_path / "corpus"
        folder.mkdir(exist_ok=True)
        (folder / name).write_text("".join(json.dumps({"text": text}) + "\n" for text in documents))
        return folder

    return write


def sentences(count: int, words: int = 30) -> list[str]:
    """Documents that have nothing in common."""
    return [" ".join(f"w{number}x{place}" for place in range(words)) for number in range(count)]
