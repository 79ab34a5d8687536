"""Code without comments is the same program; compact JSON is the same value."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest

from components.compression.strip import strip_comments, strip_folder
from components.shared.models import remote_code

REMOTE_CODE = Path(remote_code.__file__).parent


def without_docstrings(source: str) -> str:
    """The program's syntax tree, its leading string expressions taken out."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and isinstance(body[0], ast.Expr):
            value = body[0].value
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                node.body = body[1:] or [ast.Pass()]  # type: ignore[attr-defined]
    return ast.dump(tree)


@pytest.mark.parametrize("file", sorted(REMOTE_CODE.glob("*.py")), ids=lambda file: file.stem)
def test_code_without_comments_is_the_same_program(file: Path) -> None:
    source = file.read_text()
    assert ast.dump(ast.parse(strip_comments(source))) == without_docstrings(source)
    assert "#" not in strip_comments(source) and len(strip_comments(source)) <= len(source) + 1


def test_a_body_that_was_a_docstring_only_is_still_a_body() -> None:
    assert strip_comments('class Lost(Exception):\n    """Gone."""\n') == "class Lost(Exception):\n    pass\n"


def test_json_says_the_same_in_fewer_bytes(tmp_path: Path) -> None:
    content = {"text": "é <eos>\n", "list": [1, 2.5, None], "nested": {"a": True}}
    (tmp_path / "config.json").write_text(json.dumps(content, indent=2))
    (tmp_path / "README.md").write_text("as it was\n")
    strip_folder(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text()) == content
    assert (tmp_path / "config.json").stat().st_size < 70 and (
        tmp_path / "README.md"
    ).read_text() == "as it was\n"
