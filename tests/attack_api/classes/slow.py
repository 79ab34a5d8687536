"""Clients that are slow, silent, or do not read."""

from __future__ import annotations

import time

from tests.attack_api.attack import attack, refused
from tests.attack_api.raw import answer, closed_after, opened, status_of
from tests.attack_api.target import Target

HEAD = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"


@attack("slow", slow=True)
def headers_that_trickle_in(target: Target) -> None:
    """150 connections that send a header a second are closed within the deadline of 10 s."""
    connections = [opened(target.replica) for _ in range(150)]
    began = time.monotonic()
    try:
        for connection in connections:
            connection.sendall(HEAD)
        while time.monotonic() - began < 9:
            for number, connection in enumerate(connections):
                connection.sendall(b"X-%d: y\r\n" % number)
            time.sleep(1)
        left = [
            connection
            for connection in connections
            if closed_after(connection, max(0.05, 14 - (time.monotonic() - began))) is None
        ]
        refused(not left, f"{len(left)} of 150 are still open after {time.monotonic() - began:.0f} s")
    finally:
        for connection in connections:
            connection.close()


@attack("slow", slow=True)
def a_thousand_connections_that_say_nothing(target: Target) -> None:
    """The server goes on to answer, and has closed them within 15 s."""
    connections = [opened(target.replica) for _ in range(1000)]
    began = time.monotonic()
    try:
        with target.http("viewer") as http:
            refused(http.get("/auth/me").status_code == 200, "nobody else is answered")
        left = [c for c in connections if closed_after(c, max(0.05, 15 - (time.monotonic() - began))) is None]
        refused(not left, f"{len(left)} of 1,000 are still open")
    finally:
        for connection in connections:
            connection.close()


@attack("slow", slow=True)
def a_second_requests_headers(target: Target) -> None:
    """The deadline holds for every request of a connection."""
    with opened(target.replica) as connection:
        connection.sendall(HEAD + b"\r\n")
        refused(status_of(answer(connection))[0] == 200, "the first request")
        connection.sendall(HEAD)
        took = closed_after(connection, 14)
        refused(took is not None and took < 13, f"{took}")


@attack("slow", slow=True)
def a_body_that_trickles_in(target: Target) -> None:
    """It is given up after 30 s."""
    with opened(target.replica) as connection:
        connection.settimeout(2)
        head = f"POST /auth/keys HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {target.keys['admin']}\r\n"
        connection.sendall(f"{head}Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n".encode())
        began = time.monotonic()
        got = b""
        while time.monotonic() - began < 36 and not got:
            try:
                connection.sendall(b" ")
                got = connection.recv(1000)
            except TimeoutError:
                continue
            except OSError:
                break
        took = time.monotonic() - began
        refused(28 < took < 36 and status_of(got)[0] in (0, 408), f"{took:.0f} s: {got[:40]!r}")


@attack("slow", slow=True)
def answers_that_nobody_reads(target: Target) -> None:
    """200 connections each ask for the API's description a hundred times and read nothing: the server stays as it is."""
    before = target.replica.memory()
    connections = [opened(target.replica) for _ in range(200)]
    try:
        for connection in connections:
            connection.settimeout(0.2)
            try:
                for _ in range(100):
                    connection.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n")
            except OSError:
                pass
        time.sleep(2)
        grown = target.replica.memory() - before
        refused(grown < 150 << 20, f"the server has grown by {grown >> 20} MB")
        with target.http("viewer") as http:
            refused(http.get("/auth/me").status_code == 200, "nobody else is answered")
        time.sleep(62)
        left = [connection for connection in connections if _still_held(connection)]
        refused(len(left) == 0, f"{len(left)} are held after a minute")
    finally:
        for connection in connections:
            connection.close()


def _still_held(connection) -> bool:  # type: ignore[no-untyped-def]
    """Whether the server still has the other end: it does not answer a write with a reset."""
    try:
        for _ in range(3):
            connection.sendall(b"x")
            time.sleep(0.02)
    except TimeoutError:
        return True
    except OSError:
        return False
    return True


@attack("slow")
def a_socket_that_is_cut_off(target: Target) -> None:
    """Whatever stops in the middle, the server goes on."""
    for data in (
        b"",
        b"G",
        HEAD,
        HEAD + b"\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\0" * 1000,
    ):
        for _ in range(20):
            with opened(target.replica) as connection:
                connection.sendall(data)
    with target.http("viewer") as http:
        refused(http.get("/auth/me").status_code == 200, "the server does not answer")
