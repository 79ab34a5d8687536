"""The events over HTTP: by long poll and as a stream, with the same cursor."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest
from sqlalchemy import delete

from pipelines.control.store.tables import log
from tests.control.log.conftest import SECONDS, Served
from tests.control.log.made import line, lines, make_run, write

PLACE = "/phases/runs/demo/events"


@pytest.fixture
def database_url(tmp_path: Path, sqlite_template: Path) -> str:
    """SQLite only: what differs between the databases is below, and tested there."""
    path = tmp_path / "control.db"
    shutil.copyfile(sqlite_template, path)
    return f"sqlite:///{path}"


@pytest.fixture
async def client(served: Served) -> AsyncIterator[httpx2.AsyncClient]:
    await make_run(served.control.database)
    async with httpx2.AsyncClient(base_url=served.url, headers=served.headers, timeout=SECONDS) as client:
        yield client


async def record(served: Served, numbers: range) -> None:
    await write(
        served.control.database, "demo", [line(n, channel="metrics" if n % 2 else "logs") for n in numbers]
    )
    await served.control.bus.wake("demo")


async def messages(response: httpx2.Response) -> AsyncIterator[dict[str, str]]:
    """A stream's messages, by their fields."""
    fields: dict[str, str] = {}
    async for text in response.aiter_lines():
        if text and not text.startswith(":"):
            name, _, value = text.partition(": ")
            fields[name] = value
        elif not text and "data" in fields:
            yield fields
            fields = {}


async def some(stream: AsyncIterator[dict[str, str]], count: int) -> list[dict[str, str]]:
    """So many of them."""
    async with asyncio.timeout(SECONDS):
        return [await anext(stream) for _ in range(count)]


async def test_a_poll_answers_with_what_follows_and_where_to_go_on(
    served: Served, client: httpx2.AsyncClient
) -> None:
    await record(served, range(1, 6))
    page = (await client.get(PLACE, params={"after": 1, "limit": 2})).json()
    assert [event["seq"] for event in page["events"]] == [2, 3]
    assert (page["last"], page["caught_up"], page["state"]) == (3, False, "running")
    page = (await client.get(PLACE, params={"after": page["last"], "log": page["log"]})).json()
    assert [event["seq"] for event in page["events"]] == [4, 5] and page["caught_up"]


async def test_a_poll_of_some_channels_moves_past_the_others(
    served: Served, client: httpx2.AsyncClient
) -> None:
    await record(served, range(1, 7))
    page = (await client.get(PLACE, params={"channels": "metrics"})).json()
    assert [event["seq"] for event in page["events"]] == [1, 3, 5]
    assert page["last"] == 6 and page["caught_up"]


async def test_a_poll_that_waits_is_answered_as_soon_as_something_happens(
    served: Served, client: httpx2.AsyncClient
) -> None:
    polling = asyncio.create_task(client.get(PLACE, params={"wait": 30}))
    await asyncio.sleep(0.2)
    assert not polling.done()
    started = time.monotonic()
    await record(served, range(1, 2))
    assert len((await polling).json()["events"]) == 1
    assert time.monotonic() - started < 25


async def test_a_poll_for_nothing_ends_when_its_time_is_over(client: httpx2.AsyncClient) -> None:
    page = (await client.get(PLACE, params={"wait": 0.1})).json()
    assert page["events"] == [] and page["caught_up"] and page["last"] == 0


@pytest.mark.parametrize(
    ("params", "status"),
    [
        ({"log": "another"}, 410),
        ({"after": 17}, 410),
        ({"after": -1}, 422),
        ({"channels": "logs,secrets"}, 422),
        ({"wait": 31}, 422),
    ],
)
async def test_a_question_that_means_nothing_is_refused(
    client: httpx2.AsyncClient, params: dict[str, str], status: int
) -> None:
    for accept in ("application/json", "text/event-stream"):
        answer = await client.get(PLACE, params=params, headers={"Accept": accept})
        assert answer.status_code == status and answer.json()["what"]


async def test_a_run_that_is_not_there_has_no_events(client: httpx2.AsyncClient) -> None:
    assert (await client.get("/phases/runs/other/events")).status_code == 404


async def test_a_stream_goes_on_where_the_last_one_ended(served: Served, client: httpx2.AsyncClient) -> None:
    await record(served, range(1, 4))
    headers = {"Accept": "text/event-stream"}
    async with client.stream("GET", PLACE, headers=headers) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        first = await some(messages(response), 4)
        await record(served, range(4, 6))
    assert [message.get("event", "message") for message in first] == ["message"] * 3 + ["caught_up"]
    name = served.control.log
    assert [message["id"] for message in first[:3]] == [f"{name}:{n}" for n in (1, 2, 3)]
    async with client.stream("GET", PLACE, headers={**headers, "Last-Event-ID": first[2]["id"]}) as response:
        stream = messages(response)
        await record(served, range(6, 7))
        again = [message["id"] for message in await some(stream, 4) if "event" not in message]
        assert again == [f"{name}:{n}" for n in (4, 5, 6)]


async def test_a_stream_of_a_log_that_is_replaced_ends_and_its_id_is_refused(
    served: Served, client: httpx2.AsyncClient
) -> None:
    await record(served, range(1, 3))
    headers = {"Accept": "text/event-stream"}
    async with client.stream("GET", PLACE, headers=headers) as response:
        stream = messages(response)
        await some(stream, 3)
        async with served.control.database.write() as connection:
            await connection.execute(delete(log))
        assert [message["event"] for message in await some(stream, 1)] == ["gone"]
    headers["Last-Event-ID"] = f"{'0' * 32}:2"
    assert (await client.get(PLACE, headers=headers)).status_code == 410


async def test_an_id_that_is_none_is_refused(client: httpx2.AsyncClient) -> None:
    for text in ("x", "log:-1", "log:٣", "log:" + "9" * 40):
        headers = {"Accept": "text/event-stream", "Last-Event-ID": text.encode()}
        assert (await client.get(PLACE, headers=headers)).status_code == 422


async def test_events_of_a_page_are_no_more_than_were_asked_for(
    served: Served, client: httpx2.AsyncClient
) -> None:
    await write(served.control.database, "demo", lines(range(1, 1201)))
    found: list[int] = []
    while len(found) < 1200:
        page = (await client.get(PLACE, params={"after": len(found), "limit": 501})).json()
        assert 0 < len(page["events"]) <= 501
        found += [event["seq"] for event in page["events"]]
    assert found == list(range(1, 1201))
