"""The page's own tests and its types, where it is installed: `npx vitest run` in pipelines/control/dashboard."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.needs import lacks

PAGE = Path(__file__).resolve().parents[3] / "pipelines" / "control" / "dashboard"


def test_the_pages_own_tests_pass() -> None:
    if not shutil.which("node") or not (PAGE / "node_modules" / "vitest").is_dir():
        lacks("the page is not installed: make dashboard")
    run = subprocess.run(
        ["node", "node_modules/vitest/vitest.mjs", "run"],
        cwd=PAGE,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-2000:]


def test_the_lock_names_no_registry() -> None:
    assert '"resolved"' not in (PAGE / "package-lock.json").read_text(encoding="utf-8")
