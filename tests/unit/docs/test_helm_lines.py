"""What the documents have one do with helm runs the images that were pushed, and not names that no registry has."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
CHART = "charts/agent-forge"
TEXTS = sorted(
    path
    for pattern in (
        "README.md",
        "docs/*.md",
        "charts/agent-forge/**/*.md",
        "images/*.md",
        "pipelines/**/*.py",
    )
    for path in ROOT.glob(pattern)
    if "helm " in path.read_text()
)
"""The kind cluster's own README and scripts are left out: its images are loaded under their local names."""


def installs(text):
    """The command lines that install or upgrade the chart."""
    for line in text.replace("\\\n", " ").splitlines():
        for command in re.findall(r"\bhelm (?:install|upgrade)\b[^`\"]*", line):
            if CHART in command.split():
                yield command.strip()


def names_images(command):
    """Whether it says which images: by the lock, or by registry and prefix."""
    by_tag = "images.registry=" in command and "images.prefix=" in command
    return "--set-file images.lock=images/images.lock" in command or by_tag


def test_the_commands_are_found():
    found = {str(path.relative_to(ROOT)) for path in TEXTS for _ in installs(path.read_text())}
    assert {"README.md", "docs/kubeflow.md", "docs/operations.md", f"{CHART}/README.md"} <= found


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_install_and_upgrade_says_which_images(path):
    assert [command for command in installs(path.read_text()) if not names_images(command)] == []


def test_a_registry_without_the_prefix_is_not_enough():
    [bare] = installs(f"helm install agent-forge {CHART} -n kubeflow --set images.registry=ghcr.io")
    assert not names_images(bare)
    assert names_images(f"{bare} --set images.prefix=acme/agent-forge")
