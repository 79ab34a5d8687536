"""WebSockets: frames that are too large, too many, or no messages of ours."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator

from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.attack_api.attack import attack, refused
from tests.attack_api.target import Target

LARGEST = 64 << 10


@contextlib.contextmanager
def opened(target: Target, key: str = "viewer") -> Iterator[ClientConnection]:
    url = target.replica.url.replace("http", "ws", 1) + "/ws/attacker"
    headers = {"X-API-Key": target.keys.get(key, key)}
    with connect(url, additional_headers=headers, open_timeout=10, max_size=None) as socket:
        yield socket


def ends(socket: ClientConnection, seconds: float = 5.0) -> bool:
    """Whether the server closes it."""
    try:
        while True:
            socket.recv(timeout=seconds)
    except ConnectionClosed:
        return True
    except TimeoutError:
        return False


def there(target: Target) -> bool:
    try:
        with opened(target):
            return True
    except InvalidStatus as error:
        refused(error.response.status_code == 404, str(error))
        return False


@attack("sockets")
def a_frame_that_is_too_large(target: Target) -> None:
    if there(target):
        with opened(target) as socket:
            with contextlib.suppress(ConnectionClosed):
                socket.send("x" * (LARGEST + 1))
            refused(ends(socket), "it is still open")


@attack("sockets")
def messages_that_are_none(target: Target) -> None:
    """Each is refused in words, or ends the socket; the next one is served."""
    if there(target):
        for message in (
            "{",
            "[]",
            "null",
            "1",
            '"x"',
            "{}",
            '{"subscribe": 1}',
            '{"subscribe": {"mine": -1}}',
            '{"subscribe": {"mine": 1e99}}',
            '{"subscribe": {"mine": NaN}}',
            '{"subscribe": {"\\ud800": 0}}',
            '{"subscribe": {"\\u0000": 0}}',
            '{"channels": "all"}',
            "[" * 30_000,
            '{"a":' * 10_000,
            json.dumps({"subscribe": {"../../x": 0}}),
            json.dumps({"log": "x" * 10_000}),
            json.dumps({"subscribe": {f"run-{n}": 0 for n in range(2000)}}),
            b"\xff\xfe",
            b"",
        ):
            with opened(target) as socket:
                with contextlib.suppress(ConnectionClosed):
                    socket.send(message)
                ends(socket, 0.2)
        with opened(target) as socket:
            socket.send(json.dumps({"subscribe": {"mine": 0}}))
            refused(socket.recv(timeout=10), "nobody is served any more")


@attack("sockets")
def a_flood_of_messages(target: Target) -> None:
    """The server stays small, and others are answered."""
    if there(target):
        before = target.replica.memory()
        with opened(target) as socket:
            with contextlib.suppress(ConnectionClosed, TimeoutError):
                for number in range(20_000):
                    socket.send(json.dumps({"subscribe": {f"none-{number}": 0}}))
            with target.http("viewer") as http:
                refused(http.get("/auth/me").status_code == 200, "nobody else is answered")
        grown = target.replica.memory() - before
        refused(grown < 100 << 20, f"the server has grown by {grown >> 20} MB")


@attack("sockets")
def that_stay_open_when_the_key_is_revoked(target: Target) -> None:
    if there(target):
        with target.http("admin") as http:
            made = http.post("/auth/keys", json={"name": "socket"}).json()
            with opened(target, made["key"]) as socket:
                http.delete(f"/auth/keys/{made['id']}")
                refused(ends(socket, 3.0), "it is still open")
