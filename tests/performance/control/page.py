"""What the page weighs, how soon it shows rows, and how soon it answers a key: Chromium before a real server.

    python -m tests.performance.control.page --runs 10000

The page has to be built (`make dashboard`). Rows are put into the database as they are; nothing is run.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from playwright.sync_api import sync_playwright
from sqlalchemy import insert

from pipelines.control.context import opened
from pipelines.control.settings import ControlSettings
from pipelines.control.store.tables import run as runs_table
from pipelines.phases import PHASES
from tests.control.page.conftest import CHROMIUM, FLAGS
from tests.control.page.serving import ROOT, Server

if TYPE_CHECKING:
    from playwright.sync_api import Page

ROW = ".run a.name"


def sizes() -> dict[str, Any]:
    """Bytes, gzipped, as the build counts them."""
    said = subprocess.run(
        ["node", "scripts/size.mjs"],
        cwd=ROOT / "pipelines/control/dashboard",
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, Any] = json.loads(said.stdout)
    return found


async def fill(folder: Path, count: int) -> None:
    """Put runs into the database that have ended."""
    strip = {phase: {"state": "succeeded", "share": 1.0} for phase in PHASES}
    rows = [
        {
            "id": f"run-{number:05}",
            "state": "succeeded",
            "profile": "tiny",
            "created": 1e9 + number,
            "phases": strip,
        }
        for number in range(count)
    ]
    async with opened(ControlSettings(runs=folder)) as control, control.database.write() as connection:
        for start in range(0, count, 500):
            await connection.execute(insert(runs_table), rows[start : start + 500])


def first_rows(page: Page, address: str) -> float:
    """Milliseconds from the address to the first row, with a session and nothing kept."""
    began = time.perf_counter()
    page.goto(address + "/ui/runs")
    page.locator(ROW).first.wait_for()
    return 1000 * (time.perf_counter() - began)


# A key is answered when the frame after it is painted: the time is taken in the page, where no driver stands between.
ANSWERED = """key => new Promise(done => {
  const began = performance.now();
  dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
  requestAnimationFrame(() => setTimeout(() => done(performance.now() - began)));
})"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--repeat", type=int, default=10)
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(Server(folder / "runs"))
        asyncio.run(fill(server.runs, options.runs))  # before Playwright, which keeps a loop of its own
        driver = stack.enter_context(sync_playwright())
        context = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS).new_context()
        page = context.new_page()
        page.goto(f"{server.address}/#link={server.link('admin')}")
        page.locator(ROW).first.wait_for()
        rows = [first_rows(page, server.address) for _ in range(options.repeat)]
        keys = [page.evaluate(ANSWERED, key) for key in "jkjkjjkkjj" for _ in range(options.repeat // 5 or 1)]
        context.close()
    found = {
        "gzipped": sizes(),
        "runs": options.runs,
        "first_rows_ms": {"median": round(statistics.median(rows)), "max": round(max(rows))},
        "key_ms": {"median": round(statistics.median(keys), 1), "max": round(max(keys), 1)},
    }
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
