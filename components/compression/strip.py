"""The same text files in fewer bytes: modelling code without its comments, JSON without its spaces."""

from __future__ import annotations

import ast
import json
from pathlib import Path


def strip_comments(source: str) -> str:
    """The same Python program without comments, docstrings and blank lines."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if (
            isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef))
            and ast.get_docstring(node) is not None
        ):
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree) + "\n"


def strip_folder(folder: Path) -> None:
    """Rewrite the .py and .json files of a folder; what they do and say stays the same."""
    for file in sorted(folder.iterdir()):
        if file.suffix == ".py":
            file.write_text(strip_comments(file.read_text()))
        elif file.suffix == ".json":
            content = json.loads(file.read_text())
            file.write_text(json.dumps(content, separators=(",", ":"), ensure_ascii=False))
