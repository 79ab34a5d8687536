"""A proxy before an S3 server that misbehaves on demand, as networks and lesser servers do."""

from __future__ import annotations

import http.client
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

NOT_IMPLEMENTED = b"<Error><Code>NotImplemented</Code><Message>A header is not implemented</Message></Error>"
HOP_BY_HOP = ("connection", "expect", "keep-alive", "transfer-encoding")


class Proxy(ThreadingHTTPServer):
    """Use as a context manager; `address` is where clients go.

    `refuse`: so many PUTs are answered 503 and not passed on.
    `lose`: so many PUTs are passed on, and their answer is replaced by 503.
    `garble`: so many answers to GET have a byte changed.
    `forget`: the request headers that are not passed on.
    `old`: a request with a header that begins so is answered NotImplemented, as servers do that do not know it.
    `away`: the status that every request is answered with, and with nothing else; 0 for none.
    """

    daemon_threads = True

    def __init__(self, upstream: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = urlsplit(upstream).netloc
        self.address = f"http://127.0.0.1:{self.server_address[1]}"
        self.refuse = self.lose = self.garble = 0
        self.forget: set[str] = set()
        self.old, self.away = "", 0
        self.asked = 0
        self.puts = 0

    def __enter__(self) -> Proxy:
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Proxy

    def _pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        put = self.command == "PUT"
        self.server.puts += put
        self.server.asked += 1
        if self.server.away:
            return self._answer(self.server.away, {}, b"")
        if self.server.old and any(name.lower().startswith(self.server.old) for name in self.headers):
            return self._answer(501, {}, NOT_IMPLEMENTED)
        if put and self.server.refuse:
            self.server.refuse -= 1
            return self._answer(503, {}, b"")
        headers = {
            name: value
            for name, value in self.headers.items()
            if name.lower() not in HOP_BY_HOP and name.lower() not in self.server.forget
        }
        upstream = http.client.HTTPConnection(self.server.upstream)
        upstream.request(self.command, self.path, body, headers)
        answer = upstream.getresponse()
        content = answer.read()
        upstream.close()
        if put and self.server.lose:
            self.server.lose -= 1
            return self._answer(503, {}, b"")
        if self.command == "GET" and self.server.garble:
            self.server.garble -= 1
            content = bytes([content[0] ^ 1]) + content[1:]
        self._answer(answer.status, dict(answer.getheaders()), content)

    def _answer(self, status: int, headers: dict[str, str], content: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            if name.lower() not in (*HOP_BY_HOP, "content-length", "date", "server"):
                self.send_header(name, value)
        length = headers.get("Content-Length") or headers.get("content-length")
        self.send_header("Content-Length", length if self.command == "HEAD" and length else str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _pass_on

    def log_message(self, format: str, *args: Any) -> None:
        """Tests speak for themselves."""
