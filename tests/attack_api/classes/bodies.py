"""Bodies that are too large, too deep, or mean two things."""

from __future__ import annotations

import gzip
import json

from tests.attack_api.attack import attack, refused
from tests.attack_api.classes.rights import described, path_of
from tests.attack_api.raw import answer, opened, status_of
from tests.attack_api.target import Target

MIB = 1 << 20
JSON = {"Content-Type": "application/json"}
ODD = {
    "NaN": b'{"name": NaN}',
    "Infinity": b'{"name": -Infinity}',
    "1e999": b'{"name": 1e999}',
    "surrogate": b'{"name": "\\ud800"}',
    "raw surrogate": b'{"name": "\xed\xa0\x80"}',
    "NUL": b'{"name": "\\u0000"}',
    "twice": b'{"name": "a", "name": "b"}',
    "deep list": b"[" * 100_000,
    "deep object": b'{"a":' * 100_000,
    "closed": b"[" * 1000 + b"]" * 1000,
    "no UTF-8": b"\xff\xfe\x00",
    "UTF-16": '{"name": "a"}'.encode("utf-16"),
    "cut": b'{"name": "',
    "digits": b'{"name": ' + b"9" * 100_000 + b"}",
    "two": b"{}{}",
    "comment": b"{/* */}",
    "proto": b'{"__proto__": {"admin": true}, "name": 1}',
    "BOM": b"\xef\xbb\xbf[]",
    "keys": b"{" + b",".join(b'"k%d": 0' % n for n in range(50_000)) + b"}",
    "text": b'"' + b"a" * 900_000 + b'"',
}


def posts(target: Target) -> list[tuple[str, str]]:
    """Every route that takes a body."""
    return [
        (method, path_of(path)) for method, path, _ in described(target) if method in ("POST", "PUT", "PATCH")
    ]


@attack("bodies", slow=True)
def that_mean_nothing_to_every_route(target: Target) -> None:
    """4xx and nothing of them in the answer; never a 5xx."""
    wrong = []
    with target.http("admin") as http:
        for method, path in posts(target):
            if path in ("/auth/refresh", "/auth/logout", "/auth/exchange", "/auth/token"):
                continue
            for name, body in ODD.items():
                answer = http.request(method, path, content=body, headers=JSON)
                if not 400 <= answer.status_code < 500 or "aaaaaaaa" in answer.text:
                    wrong.append(f"{method} {path} {name}: {answer.status_code}")
    refused(not wrong, "; ".join(wrong[:20]))


@attack("bodies")
def that_are_too_large(target: Target) -> None:
    """Told or not told how large: refused, without being kept."""
    before = target.replica.memory()
    for _ in range(3):
        with opened(target.replica) as connection:
            connection.sendall(
                b"POST /auth/keys HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                b"Content-Length: 209715200\r\n\r\n"
            )
            status, _ = status_of(answer(connection))
            refused(status == 413, f"200 MB: {status}")
        with opened(target.replica) as connection:
            connection.settimeout(10)
            connection.sendall(
                b"POST /auth/keys HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                b"Transfer-Encoding: chunked\r\n\r\n"
            )
            sent = 0
            try:
                while sent < 200 * MIB:
                    connection.sendall(b"10000\r\n" + b" " * 65536 + b"\r\n")
                    sent += 65536
            except OSError:
                pass
            refused(sent < 20 * MIB, f"{sent >> 20} MB in chunks were taken")
    grown = target.replica.memory() - before
    refused(grown < 64 * MIB, f"the server has grown by {grown >> 20} MB")


@attack("bodies")
def lengths_that_contradict(target: Target) -> None:
    """What one server reads as one request and another as two."""
    head = b"POST /auth/keys HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    smuggled = b"0\r\n\r\nGET /auth/me HTTP/1.1\r\nHost: localhost\r\n\r\n"
    for lengths in (
        b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
        b"Content-Length: 4\r\nContent-Length: 60\r\n",
        b"Content-Length: -1\r\n",
        b"Content-Length: 1e3\r\n",
        b"Content-Length: +4\r\n",
        b"Transfer-Encoding: identity, chunked\r\n",
        b"Transfer-Encoding : chunked\r\n",
        b"Transfer-Encoding: xchunked\r\n",
        b"Content-Length: 99999999999999999999\r\n",
    ):
        with opened(target.replica) as connection:
            connection.settimeout(3)
            connection.sendall(head + lengths + b"\r\n" + smuggled)
            got = answer(connection)
            connection.settimeout(0.2)
            got += answer(connection)  # of the request inside the body, if it was taken for one
            status, _ = status_of(got)
            refused(
                status in (0, 400, 401, 413, 422, 501) and got.count(b"HTTP/1.1 ") <= 1,
                f"{lengths!r}: {got[:60]!r}",
            )


@attack("bodies", slow=True)
def that_unfold(target: Target) -> None:
    """200 MB of zeros in 200 kB, and said to be JSON."""
    before = target.replica.memory()
    bomb = gzip.compress(b"0" * (200 * MIB), 9)
    with target.http("admin") as http, target.http("run theirs") as pod:
        for method, path in posts(target):
            for encoding in ("gzip", "deflate", "br", "gzip, gzip", "zstd"):
                for client in (http, pod):
                    if path.startswith("/auth/") and client is pod:
                        continue
                    status = client.request(
                        method, path, content=bomb, headers=JSON | {"Content-Encoding": encoding}
                    ).status_code
                    refused(
                        400 <= status < 500 or path in ("/auth/logout", "/auth/token"),
                        f"{method} {path} {encoding}: {status}",
                    )
    grown = target.replica.memory() - before
    refused(grown < 100 * MIB, f"the server has grown by {grown >> 20} MB")


@attack("bodies")
def headers_that_are_too_many_or_long(target: Target) -> None:
    head = b"GET /auth/me HTTP/1.1\r\nHost: localhost\r\n"
    for more in (
        b"X: " + b"a" * 200_000 + b"\r\n",
        b"".join(b"X-%d: y\r\n" % n for n in range(20_000)),
        b"X\0: y\r\n",
        b"X: a\rb\r\n",
    ):
        with opened(target.replica) as connection:
            connection.settimeout(10)
            try:
                connection.sendall(head + more + b"\r\n")
                got = answer(connection)
            except OSError:
                got = b""
            refused(status_of(got)[0] in (0, 400, 431), f"{more[:20]!r}: {got[:40]!r}")
    with opened(target.replica) as connection:
        connection.sendall(b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
        refused(status_of(answer(connection))[0] in (0, 400, 414), "a long address")


@attack("bodies")
def of_another_kind(target: Target) -> None:
    """A form or a text that could be JSON is not read as JSON: a foreign page can send those without being asked."""
    body = json.dumps({"name": "x"}).encode()
    with target.http("admin") as http:
        for kind in (
            "text/plain",
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=x",
            "application/xml",
        ):
            status = http.post("/auth/keys", content=body, headers={"Content-Type": kind}).status_code
            refused(status in (400, 415, 422), f"{kind}: {status}")
