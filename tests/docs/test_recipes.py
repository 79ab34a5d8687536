"""Every recipe of docs/recipes does what it says, when its commands are pasted one after the other."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs" / "recipes"
RECIPES = sorted(path for path in FOLDER.glob("*.md") if path.name != "README.md")
BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def script_of(recipe: Path) -> str:
    """The blocks of a recipe as one shell script."""
    blocks = BLOCK.findall(recipe.read_text())
    assert blocks, recipe
    return "".join(text if kind == "sh" else f"python - <<'END'\n{text}END\n" for kind, text in blocks)


def paste(script: str, folder: Path) -> str:
    """What the script prints; the programs `forge` and `python` are this environment's."""
    programs = folder / "bin"
    programs.mkdir(exist_ok=True)
    for name, module in (("python", ""), ("forge", " -m pipelines.cli")):
        (programs / name).write_text(f'#!/bin/sh\nexec {sys.executable}{module} "$@"\n')
        (programs / name).chmod(0o755)
    surroundings = {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
    }
    ended = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env=os.environ | surroundings,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder `models` that the recipes start from, as their first page makes it."""
    folder = tmp_path_factory.mktemp("recipes")
    paste(script_of(FOLDER / "README.md"), folder)
    return folder / "models"


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_can_be_pasted(recipe: Path, models: Path, tmp_path: Path) -> None:
    if recipe.stem == "python":
        pytest.importorskip("pipelines.api")
    shutil.copytree(models, tmp_path / "models")
    assert paste(script_of(recipe), tmp_path)


def test_every_recipe_is_on_the_first_page_and_in_the_sites_menu() -> None:
    for recipe in RECIPES:
        assert f"({recipe.name})" in (FOLDER / "README.md").read_text(), recipe.name
        assert f"recipes/{recipe.name}" in (ROOT / "mkdocs.yml").read_text(), recipe.name
