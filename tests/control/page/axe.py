"""What axe finds wrong in a place of the page, on a phone and a desk, light and dark; and whether it is too wide."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.control.page.conftest import go

if TYPE_CHECKING:
    from playwright.sync_api import Page

WIDTHS = (320, 1440)
THEMES = ("light", "dark")
"""In the dark, what colours can make wrong is looked at again."""


def prepare(page: Page) -> None:
    """Load axe; once, since the page is not loaded again."""
    page.evaluate(pytest.importorskip("axe_playwright_python.sync_playwright").Axe().axe_script)


def wrong(page: Page, place: str) -> list[str]:
    """All that is wrong there, a line each."""
    found = []
    go(page, place)
    page.get_by_role("main").wait_for()
    page.locator("main .spinner").first.wait_for(state="detached", timeout=60_000)
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 800})
        for theme in THEMES:
            page.emulate_media(color_scheme=theme, reduced_motion="reduce")
            rules = {"runOnly": ["color-contrast", "link-in-text-block"]} if theme == "dark" else {}
            found += [
                f"{place} {theme} {width}: {violation['id']}: {violation['nodes'][0]['html'][:200]}"
                for violation in page.evaluate("rules => axe.run(document, rules)", rules)["violations"]
            ]
        if page.evaluate("document.documentElement.scrollWidth") > width:
            found.append(f"{place} is wider than {width}")
    return found
