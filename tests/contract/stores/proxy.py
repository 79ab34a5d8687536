"""A proxy before an S3 server that misbehaves on demand, as networks and lesser servers do."""

from __future__ import annotations

import contextlib
import http.client
import socket
import struct
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

NOT_IMPLEMENTED = b"<Error><Code>NotImplemented</Code><Message>A header is not implemented</Message></Error>"
HOP_BY_HOP = ("connection", "expect", "keep-alive", "transfer-encoding")

REFUSALS = {
    "access denied": (403, "AccessDenied"),
    "bad digest": (400, "BadDigest"),
    "conflict": (409, "ConditionalRequestConflict"),
    "gateway timeout": (504, ""),
    "internal error": (500, "InternalError"),
    "no such bucket": (404, "NoSuchBucket"),
    "not implemented": (501, "NotImplemented"),
    "precondition failed": (412, "PreconditionFailed"),
    "request timeout": (400, "RequestTimeout"),
    "slow down": (503, "SlowDown"),
    "too many requests": (429, "TooManyRequests"),
}
"""Answers in place of the server's, to which the request does not come."""

BROKEN = {
    "body changed": "GET",
    "body cut": "GET",
    "body empty": "GET",
    "body short": "GET",
    "checksums gone": "",
    "connection closed before": "",
    "connection reset": "",
    "lost answer": "",
    "lost put": "PUT",
    "login page": "",
    "redirected": "",
}
"""Answers that do not come, or come otherwise than they were sent; to requests of this method, or of all."""

WAITING = {"stalled answer": "", "stalled body": "GET", "slow body": "GET"}

FAULTS = {**dict.fromkeys(REFUSALS, ""), **BROKEN, **WAITING}
"""Every fault by name: the method of the requests that it meets, empty for all."""

STALL = 1.5
"""Seconds for which a stalled answer does not come. Then the connection ends."""
SLOW = 0.05
"""Seconds between two pieces of a slow body, of which there are eight."""
LOGIN = b"<!doctype html><title>Sign in</title><form><input name=user></form>"


class Proxy(ThreadingHTTPServer):
    """Use as a context manager; `address` is where clients go.

    `refuse`: so many PUTs are answered 503 and not passed on.
    `lose`: so many PUTs are passed on, and their answer is replaced by 503.
    `garble`: so many answers to GET have a byte changed.
    `forget`: the request headers that are not passed on.
    `old`: a request with a header that begins so is answered NotImplemented, as servers do that do not know it.
    `away`: the status that every request is answered with, and with nothing else; 0 for none.
    `fault`: the name of one of FAULTS; it passes over `skip` requests, then meets `times`, and counts them in `met`.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self, upstream: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = urlsplit(upstream).netloc
        self.address = f"http://127.0.0.1:{self.server_address[1]}"
        self.refuse = self.lose = self.garble = 0
        self.forget: set[str] = set()
        self.old, self.away = "", 0
        self.asked = 0
        self.puts = 0
        self.fault, self.skip, self.times, self.met = "", 0, 0, 0
        self._counting = threading.Lock()

    def __enter__(self) -> Proxy:
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    def chosen(self, method: str) -> str:
        """The fault that meets this request, empty for none."""
        if not self.fault or FAULTS[self.fault] not in ("", method):
            return ""
        with self._counting:
            self.skip -= 1
            if self.skip >= 0 or self.met >= self.times:
                return ""
            self.met += 1
        return self.fault

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that has left, or was sent away, is no error here."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Proxy

    def _pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        put = self.command == "PUT"
        self.server.puts += put
        self.server.asked += 1
        fault = self.server.chosen(self.command)
        if self._is_refused(fault, put):
            return
        status, headers, content = self._asked(body)
        if fault in ("lost answer", "lost put"):
            return self._hang_up() if fault == "lost answer" else self._answer(503, {}, b"")
        if put and self.server.lose:
            self.server.lose -= 1
            return self._answer(503, {}, b"")
        if self.command == "GET" and content and (self.server.garble or fault == "body changed"):
            self.server.garble -= bool(self.server.garble)
            content = bytes([content[0] ^ 1]) + content[1:]
        if fault == "checksums gone":
            headers = {
                name: value
                for name, value in headers.items()
                if "checksum" not in name.lower() and not name.lower().startswith("x-amz-meta")
            }
        if fault in ("body short", "body empty"):
            content = content[: len(content) // 2] if fault == "body short" else b""
        self._answer(status, headers, content, fault)

    def _is_refused(self, fault: str, put: bool) -> bool:
        """Whether the request has had its answer, or its end, without the server."""
        if self.server.away:
            self._answer(self.server.away, {}, b"")
        elif self.server.old and any(name.lower().startswith(self.server.old) for name in self.headers):
            self._answer(501, {}, NOT_IMPLEMENTED)
        elif put and self.server.refuse:
            self.server.refuse -= 1
            self._answer(503, {}, b"")
        elif fault in REFUSALS:
            status, code = REFUSALS[fault]
            text = f"<Error><Code>{code}</Code><Message>{fault}</Message></Error>" if code else "<html>"
            self._answer(status, {"Content-Type": "application/xml"}, text.encode())
        elif fault == "login page":
            self._answer(200, {"Content-Type": "text/html"}, LOGIN)
        elif fault == "redirected":
            self._answer(307, {"Location": "http://127.0.0.1:9/login"}, b"")
        elif fault == "stalled answer":
            time.sleep(STALL)
            self._hang_up()
        elif fault == "connection closed before":
            self._hang_up()
        elif fault == "connection reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._hang_up()
        else:
            return False
        return True

    def _asked(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        """What the server answers."""
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
        return answer.status, dict(answer.getheaders()), content

    def _answer(self, status: int, headers: dict[str, str], content: bytes, fault: str = "") -> None:
        self.send_response(status)
        for name, value in headers.items():
            if name.lower() not in (*HOP_BY_HOP, "content-length", "date", "server"):
                self.send_header(name, value)
        length = headers.get("Content-Length") or headers.get("content-length")
        self.send_header("Content-Length", length if self.command == "HEAD" and length else str(len(content)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if fault in ("body cut", "stalled body"):
            self.wfile.write(content[: len(content) // 2])
            self.wfile.flush()
            time.sleep(STALL if fault == "stalled body" else 0)
            self._hang_up()
        elif fault == "slow body":
            size = len(content) // 8 + 1
            for at in range(0, len(content), size):
                self.wfile.write(content[at : at + size])
                self.wfile.flush()
                time.sleep(SLOW)
        else:
            self.wfile.write(content)

    def _hang_up(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)
        self.connection.close()

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _pass_on

    def log_message(self, format: str, *args: Any) -> None:
        """Tests speak for themselves."""
