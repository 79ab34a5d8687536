"""The servers of memory and of files that everybody uses, from npm, once a session; skipped where they cannot be had."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.needs import lacks

PACKAGES = ("@modelcontextprotocol/server-memory", "@modelcontextprotocol/server-filesystem")


@pytest.fixture(scope="session")
def node_modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        lacks("npm is not installed")
    folder = tmp_path_factory.mktemp("npm")
    quiet = ["--no-audit", "--no-fund", "--silent", "--prefix", str(folder)]
    try:
        done = subprocess.run([npm, "install", *quiet, *PACKAGES], capture_output=True, timeout=120)
    except subprocess.TimeoutExpired:
        lacks("npm's registry does not answer")
    if done.returncode:
        lacks(f"npm cannot install {PACKAGES[0]}: {done.stderr.decode(errors='replace')[:200]}")
    return folder / "node_modules"


@pytest.fixture
def memory_server(node_modules: Path, tmp_path: Path) -> dict[str, object]:
    program = node_modules / "@modelcontextprotocol/server-memory/dist/index.js"
    return {
        "command": "node",
        "args": [str(program)],
        "env": {"MEMORY_FILE_PATH": str(tmp_path / "memory.jsonl")},
    }


@pytest.fixture
def filesystem_server(node_modules: Path, tmp_path: Path) -> dict[str, object]:
    program = node_modules / "@modelcontextprotocol/server-filesystem/dist/index.js"
    root = Path(os.path.realpath(tmp_path)) / "exports"
    root.mkdir()
    return {"command": "node", "args": [str(program), str(root)], "root": str(root)}
