"""The page in a real browser, before a real server with its own folder of runs.

========  ==================================================================================================
fixture   what it is
========  ==================================================================================================
server    `forge control` in a process of its own, for all tests of a module; the page is built
browser   Chromium
visit     a function: a page on which somebody of a role is logged in
========  ==================================================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pipelines.control.api.page import built
from tests.control.page.serving import Server
from tests.needs import lacks

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = "/usr/bin/chromium"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]

Visit = Callable[..., "Page"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    if not built():
        lacks("the page is not built: make dashboard")
    with Server(tmp_path_factory.mktemp("control") / "runs") as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    playwright = pytest.importorskip("playwright.sync_api")
    if not Path(CHROMIUM).exists():
        lacks(f"{CHROMIUM} is not installed")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def visit(server: Server, browser: Browser) -> Iterator[Visit]:
    contexts: dict[str, Any] = {}

    def come(
        role: str = "admin", path: str = "/ui/runs", before: Callable[[Any], None] | None = None
    ) -> Page:
        known = role in contexts
        if not known:
            contexts[role] = browser.new_context(
                viewport={"width": 1440, "height": 900}, reduced_motion="reduce"
            )
            contexts[role].set_default_timeout(15_000)
        page: Page = contexts[role].new_page()
        if before:
            before(page)
        if not known:  # a link lets in once; from then on a cookie does
            page.goto(f"{server.address}/#link={server.link(role)}")
            page.wait_for_url("**/ui/runs**")
        page.goto(server.address + path)
        page.get_by_role("navigation", name="Pages").wait_for()
        return page

    yield come
    for context in contexts.values():
        context.close()


def go(page: Page, path: str) -> None:
    """To another place of the page, as a link in it leads there: the access token is in memory only."""
    page.evaluate("path => history.pushState(null, '', path)", path)
