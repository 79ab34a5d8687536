"""A gate that could not look at anything does not pass: a missing tool is a skip for `make test` only."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import needs

ROOT = Path(__file__).resolve().parents[2]
GATED = [
    path
    for folder in ("chart", "image")
    for path in sorted((ROOT / "tests" / folder).rglob("*.py"))
    if "cluster" not in path.parts
]


def test_without_the_variable_it_is_a_skip_with_its_reason(monkeypatch):
    monkeypatch.delenv(needs.REQUIRED, raising=False)
    with pytest.raises(pytest.skip.Exception, match="crane is not installed"):
        needs.lacks("crane is not installed")


def test_with_it_it_is_a_failure_that_names_the_tool(monkeypatch):
    monkeypatch.setenv(needs.REQUIRED, "1")
    with pytest.raises(pytest.fail.Exception, match="crane is not installed"):
        needs.lacks("crane is not installed")


@pytest.mark.parametrize("target", ["chart-test", "images-test"])
def test_the_gates_ask_for_their_tools_and_list_what_is_skipped(target):
    makefile = (ROOT / "Makefile").read_text()
    [recipe] = re.findall(rf"^{target}:.*\n\t(.*)$", makefile, re.MULTILINE)
    assert f"{needs.REQUIRED}=1" in recipe.split() and "-rs" in recipe.split()


@pytest.mark.parametrize("path", GATED, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_test_of_the_gates_skips_in_another_way(path):
    skips = re.findall(r".*(?:pytest\.skip\(|mark\.skip|importorskip).*", path.read_text())
    assert [line for line in skips if "make images-test runs these" not in line] == []


@pytest.mark.parametrize(("required", "said"), [("1", "1 error"), ("", "1 skipped")])
def test_the_images_tests_without_podman(required, said, tmp_path):
    environment = os.environ | {"PATH": str(tmp_path), "FORGE_TEST_IMAGES": "1", needs.REQUIRED: required}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "tests/image/test_images_as_pods.py",
        "-rs",
        "-p",
        "no:cacheprovider",
    ]
    ended = subprocess.run(
        [*command, "--numprocesses", "0"], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert "podman is not installed" in ended.stdout and said in ended.stdout, ended.stdout + ended.stderr
    assert (ended.returncode == 0 or ended.returncode == 5) is (required == "")
