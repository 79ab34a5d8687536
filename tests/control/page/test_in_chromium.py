"""A person before the page: a run from its start to the answer of its model, and everything that can come between."""

from __future__ import annotations

import re
import signal
from typing import TYPE_CHECKING, Any

import pytest

from tests.control.page import axe
from tests.control.page.conftest import Visit, go
from tests.control.page.serving import Server

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route

QUICK = [
    "cognate.trunk.steps=30", "cognate.standard.steps=2", "cognate.reasoning.steps=2",
    "cognate.gram_items=8", "cognate.probe_items=8",
    "evaluation.items=8",
]  # fmt: skip
"""What makes a micro run of phase cognate a matter of seconds."""

ASKED = {
    "name": "seen", "profile": "micro", "start_phase": "cognate", "end_phase": "cognate",
    "base_models": ["standard", "reasoning"],
    "overrides": QUICK,
}  # fmt: skip


@pytest.fixture(scope="module")
def run(server: Server) -> str:
    """A run that is asked for at once, so that it is done when a test wants what it has made."""
    name: str = server.ask("POST", "/phases/execute", ASKED)["run_id"]
    return name


def state(page: Page, words: str) -> Any:
    return page.get_by_role("banner").get_by_text(re.compile(words))


def test_a_run_is_planned_and_started_with_a_form(server: Server, run: str, visit: Visit) -> None:
    page = visit(path="/ui/new")
    page.get_by_label("Profile").select_option("micro")
    page.get_by_label("To phase").select_option("cognate")
    page.get_by_role("textbox", name="Name", exact=True).fill("by-hand")
    page.get_by_label("Priority").fill("-1")
    page.get_by_text(re.compile(r"^cognate \d+")).first.click()
    steps = page.get_by_label(re.compile(r"^trunk\.steps"))
    steps.fill("many")
    assert steps.get_attribute("aria-invalid") == "true"
    steps.fill("9999")
    page.get_by_role("button", name="Plan", exact=True).click()
    page.get_by_text("What would be done").wait_for()
    page.get_by_role("button", name="Start", exact=True).click()
    page.wait_for_url("**/ui/runs/by-hand**")
    page.get_by_role("heading", name="by-hand").wait_for()
    assert "cognate.trunk.steps=9999" in server.ask("GET", "/phases/runs/by-hand")["request"]["overrides"]


def test_cancelling_is_confirmed_by_name_and_shown_at_once(server: Server, visit: Visit) -> None:
    page = visit(path="/ui/runs/by-hand")
    page.get_by_role("button", name="Cancel", exact=True).click()
    confirm = page.get_by_role("button", name="Cancel the run")
    assert confirm.get_attribute("aria-disabled") == "true"
    page.get_by_label(re.compile("to confirm")).fill("by-hand")
    confirm.click()
    page.locator(".badge", has_text=re.compile("cancelling|cancelled")).first.wait_for(timeout=2_000)
    server.wait_for("by-hand", {"cancelled"})
    page.locator(".badge", has_text="cancelled").first.wait_for()
    assert page.get_by_role("button", name="Resume").get_attribute("aria-disabled") is None


def test_a_run_is_watched_live_to_its_end(server: Server, run: str, visit: Visit) -> None:
    page = visit(path=f"/ui/runs/{run}")
    state(page, "live").wait_for()
    server.wait_for(run, {"succeeded"})
    page.locator(".badge", has_text="succeeded").first.wait_for()
    page.get_by_role("tab", name="Logs").click()
    page.locator(".log .line").first.wait_for()
    page.get_by_role("tab", name="Events").click()
    page.get_by_role("cell", name="succeeded").first.wait_for()
    page.get_by_role("tab", name="Metrics").click()
    page.locator(".u-over").first.wait_for()
    page.get_by_role("button", name="show as table").first.click()
    page.get_by_role("columnheader", name="step").first.wait_for()


def test_its_model_is_inspected_tagged_and_asked(server: Server, run: str, visit: Visit) -> None:
    server.wait_for(run, {"succeeded"})
    page = visit(path=f"/ui/models?run={run}")
    page.get_by_role("link", name=re.compile("^standard")).click()
    page.get_by_label("A new tag").fill("best")
    page.get_by_role("button", name="Tag", exact=True).click()
    page.get_by_label("Take the tag best away").wait_for()
    page.get_by_role("tab", name="Tensors").click()
    page.get_by_text(re.compile(r"model\.embed_tokens")).first.wait_for()
    page.get_by_role("tab", name="Lineage").click()
    page.get_by_role("group", name="Lineage").wait_for()
    page.get_by_role("button", name="Ask it").click()
    page.get_by_label("Prompt").fill("1+1=")
    page.get_by_role("button", name="Ask", exact=True).click()
    page.get_by_text(re.compile("verified and loaded in")).wait_for(timeout=60_000)


def test_axe_finds_nothing_about_a_real_model(server: Server, run: str, visit: Visit) -> None:
    """The other places are looked at with made runs (test_accessible.py), which have no model."""
    server.wait_for(run, {"succeeded"})
    digest = server.ask("GET", f"/models?run={run}")["models"][0]["digest"]
    tabs = ("scores", "tensors", "lineage", "manifest")
    page = visit()
    axe.prepare(page)
    places = [*(f"/ui/models/{digest}?tab={tab}" for tab in tabs), f"/ui/playground?models={digest}"]
    found = [line for place in places for line in axe.wrong(page, place)]
    assert not found, "\n".join(found)
    page.close()


def test_runs_are_compared_with_their_settings(server: Server, run: str, visit: Visit) -> None:
    page = visit(path=f"/ui/compare?runs={run},by-hand&tab=settings")
    page.get_by_text(re.compile(r"trunk\.steps")).first.wait_for()
    page.get_by_role("tab", name="Metrics").click()
    page.get_by_role("table", name="Last values").wait_for()


def test_a_viewer_sees_all_and_is_told_why_nothing_else(run: str, visit: Visit) -> None:
    page = visit("viewer")
    new = page.get_by_role("button", name="New run")
    assert new.get_attribute("aria-disabled") == "true" and "viewer" in (new.get_attribute("title") or "")
    go(page, f"/ui/runs/{run}")
    delete = page.get_by_role("button", name="Delete")
    delete.wait_for()
    assert delete.get_attribute("aria-disabled") == "true" and "viewer" in (
        delete.get_attribute("title") or ""
    )
    go(page, "/ui/system?tab=keys")
    page.get_by_text("Keys are not for you").wait_for()


def test_who_is_shut_out_is_shown_the_way_in(server: Server, visit: Visit) -> None:
    page = visit("operator")
    server.ask("PATCH", f"/auth/principals/{server.principal('operator')}", {"disabled": True})
    page.wait_for_url("**/ui/login", timeout=25_000)  # its socket is closed, and nothing renews the session
    page.get_by_role("heading", name="Log in to Agent Forge").wait_for()


def test_everything_is_reached_by_keys(run: str, visit: Visit) -> None:
    page = visit()
    page.get_by_role("link", name=run, exact=True).wait_for()
    page.keyboard.press("j")
    page.keyboard.press("k")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("/ui/runs/.+"))
    page.keyboard.press("g")
    page.keyboard.press("m")
    page.wait_for_url("**/ui/models")
    page.get_by_role("search", name="Models").wait_for()
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.hasAttribute('data-search')")
    page.keyboard.press("Escape")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("?")
    page.get_by_role("heading", name="What the keys do").wait_for()
    page.keyboard.press("Escape")
    page.keyboard.press("Control+k")
    page.get_by_role("combobox", name="Go to or do").fill(run)
    page.get_by_role("option", name=f"{run} run").wait_for()  # runs are looked up
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/ui/runs/{run}")


def test_filters_are_in_the_address_and_a_view_is_kept(visit: Visit) -> None:
    page = visit()
    page.get_by_label("state").select_option("cancelled")
    page.wait_for_url("**/ui/runs?state=cancelled")
    page.get_by_role("button", name="Save this view").click()
    page.get_by_label("Its name").fill("stopped")
    page.get_by_role("button", name="Save", exact=True).click()
    page.get_by_role("link", name="All", exact=True).click()
    page.get_by_role("link", name="stopped", exact=True).click()
    page.wait_for_url("**/ui/runs?state=cancelled")


def test_where_websockets_are_blocked_events_come_all_the_same(
    server: Server, run: str, visit: Visit
) -> None:
    def refuse(page: Page) -> None:
        page.route_web_socket(re.compile(".*"), lambda socket: socket.close())

    page = visit(path=f"/ui/runs/{run}", before=refuse)
    state(page, "^live$").wait_for()
    assert "server-sent events" in (
        page.get_by_role("banner").locator(".standing").get_attribute("title") or ""
    )


def test_where_streams_are_held_back_too_it_is_asked_again_and_again(run: str, visit: Visit) -> None:
    def refuse(page: Page) -> None:
        def only_polls(route: Route) -> None:
            if "text/event-stream" in route.request.headers.get("accept", ""):
                route.abort()
            else:
                route.continue_()

        page.route_web_socket(re.compile(".*"), lambda socket: socket.close())
        page.route(re.compile("/events"), only_polls)

    page = visit(path=f"/ui/runs/{run}", before=refuse)
    state(page, "^as of").wait_for(timeout=30_000)
    assert "asking again" in (page.get_by_role("banner").locator(".standing").get_attribute("title") or "")


def test_the_page_says_that_the_server_is_away_and_comes_back_by_itself(
    server: Server, run: str, visit: Visit
) -> None:
    page = visit(path=f"/ui/runs/{run}")
    page.get_by_role("heading", name=run).wait_for()
    state(page, "^live$").wait_for()
    server.stop(signal.SIGKILL)
    state(page, "reconnecting").wait_for()
    page.get_by_role("heading", name=run).wait_for()  # what is known stays
    server.start()
    state(page, "^live$").wait_for(timeout=30_000)
