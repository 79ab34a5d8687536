"""An API on this machine that takes what is posted to it, or fails in the way that it is told to."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Handler(BaseHTTPRequestHandler):
    server: FaultyApi

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked.append((self.path, self.headers["Authorization"], json.loads(body)))
        if self.server.how == "hang":
            self.server.released.wait(60)
        elif self.server.how == "reset":
            self.connection.shutdown(socket.SHUT_RDWR)
        else:
            self.send_response(int(self.server.how))
            self.send_header("Content-Length", "0")
            self.end_headers()

    def log_message(self, *arguments: Any) -> None:
        pass


class FaultyApi(ThreadingHTTPServer):
    """`how` is hang, reset or a status; `asked` what was posted: path, authorization, body."""

    daemon_threads = True

    def __init__(self, how: str | int = 202) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.how = how
        self.asked: list[tuple[str, str, Any]] = []
        self.released = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_port}"


@contextlib.contextmanager
def serving(how: str | int = 202) -> Iterator[FaultyApi]:
    """One that serves until the block ends."""
    server = FaultyApi(how)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield server
    server.released.set()
    server.shutdown()
    server.server_close()


def nowhere() -> str:
    """An address at which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{taken.getsockname()[1]}"
