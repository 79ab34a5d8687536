"""Requests that no client library would send."""

from __future__ import annotations

import contextlib
import socket
import time

from tests.attack_api.target import Replica


def opened(replica: Replica) -> socket.socket:
    """A connection."""
    return socket.create_connection(replica.address, timeout=30)


def exchange(replica: Replica, data: bytes, *, seconds: float = 10.0) -> tuple[int, bytes]:
    """Send something; the status of the answer (0 for none), and the answer."""
    with opened(replica) as connection:
        connection.settimeout(seconds)
        with contextlib.suppress(OSError):
            connection.sendall(data)
        return status_of(answer(connection))


def answer(connection: socket.socket) -> bytes:
    """What comes until the end, or until nothing has come for the connection's timeout."""
    got = b""
    with contextlib.suppress(OSError):
        while chunk := connection.recv(65536):
            got += chunk
            head, separator, body = got.partition(b"\r\n\r\n")
            if separator and (length := _length(head)) is not None and len(body) >= length:
                break
    return got


def status_of(got: bytes) -> tuple[int, bytes]:
    """The status of an answer; 0 where there is none."""
    first = got.split(b"\r\n", 1)[0].split(b" ")
    return (int(first[1]) if len(first) > 1 and first[1].isdigit() else 0), got


def _length(head: bytes) -> int | None:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.partition(b":")[2])
    return None


def closed_after(connection: socket.socket, seconds: float) -> float | None:
    """After how many seconds the server closes a connection; None where it has not by then."""
    began = time.monotonic()
    connection.settimeout(seconds)
    with contextlib.suppress(TimeoutError):
        try:
            while connection.recv(65536):
                connection.settimeout(max(0.05, seconds - (time.monotonic() - began)))
        except ConnectionError:
            pass
        return time.monotonic() - began
    return None
