"""Foreign pages and foreign names, with every method and by WebSocket."""

from __future__ import annotations

import http.client

from tests.attack_api.attack import attack, refused
from tests.attack_api.classes.rights import path_of, socket_status
from tests.attack_api.raw import exchange
from tests.attack_api.target import Target

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND")
PATHS = ("/auth/me", "/phases/runs", "/auth/refresh", "/openapi.json", "/mcp", "/ws/x", "/", "/no/such/thing")
ORIGINS = (
    "http://evil.example",
    "null",
    "",
    "http://localhost:3000.evil.example",
    "http://evil-localhost:3000",
    "http://localhost:30000",
    "https://localhost:3000",
    "http://localhost:3000/",
    "http://localhost:3000@evil.example",
    "file://",
    "chrome-extension://abc",
    "http://127.0.0.1",
    "HTTP://EVIL.EXAMPLE",
    "http://[::1]:3000",
    "*",
)
HOSTS = (
    "evil.example",
    "localhost.evil.example",
    "evil.example:8083",
    "127.0.0.1.evil.example",
    "localhost@evil.example",
    "169.254.169.254",
    "0.0.0.0",
    "127.1",
    "2130706433",
    "0x7f000001",
    "[::ffff:127.0.0.1]",
    "localhost, evil.example",
    "localhost.",
    "%6cocalhost",
    "localhost/evil",
    "",
)


@attack("origins")
def a_foreign_page_by_every_method(target: Target) -> None:
    with target.http("admin") as http:
        for origin in ORIGINS:
            for method in METHODS:
                for path in PATHS[:4] if method != "GET" else PATHS:
                    answer = http.request(method, path, headers={"Origin": origin})
                    refused(
                        answer.status_code == 403, f"{method} {path} from {origin!r}: {answer.status_code}"
                    )
                    refused("access-control-allow-origin" not in answer.headers, f"CORS for {origin!r}")


@attack("origins")
def a_foreign_page_asks_before(target: Target) -> None:
    with target.http() as http:
        for origin in ORIGINS:
            headers = {"Origin": origin, "Access-Control-Request-Method": "DELETE"}
            answer = http.options("/phases/runs", headers=headers)
            refused(answer.status_code == 403 and "access-control-allow-origin" not in answer.headers, origin)
        ours = {"Origin": "http://localhost:3000", "Access-Control-Request-Method": "DELETE"}
        answer = http.options("/phases/runs", headers=ours)
        refused(
            answer.headers.get("access-control-allow-origin") == "http://localhost:3000",
            "our own page is refused",
        )


@attack("origins")
def a_foreign_name_by_every_method(target: Target) -> None:
    with target.http("admin") as http:
        for host in HOSTS:
            for method in METHODS if host == "evil.example" else ("GET", "DELETE"):
                for path in PATHS:
                    answer = http.request(method, path, headers={"Host": host})
                    refused(
                        answer.status_code in (400, 421), f"{method} {path} as {host!r}: {answer.status_code}"
                    )


@attack("origins")
def two_names_or_none(target: Target) -> None:
    host, port = target.replica.address
    key = f"X-API-Key: {target.keys['admin']}\r\n"
    for names in (
        f"Host: {host}:{port}\r\nHost: evil.example\r\n",
        "",
        "Host: evil.example\r\nHost: localhost\r\n",
    ):
        for version in ("1.1", "1.0"):
            status, _ = exchange(target.replica, f"GET /auth/me HTTP/{version}\r\n{names}{key}\r\n".encode())
            refused(status in (400, 421), f"{names!r} HTTP/{version}: {status}")
    status, _ = exchange(
        target.replica,
        f"GET http://evil.example/auth/me HTTP/1.1\r\nHost: evil.example\r\n{key}\r\n".encode(),
    )
    refused(status in (400, 421), f"absolute: {status}")


@attack("origins")
def a_foreign_page_opens_a_socket(target: Target) -> None:
    """Before it is accepted."""
    bearer = {"X-API-Key": target.keys["admin"]}
    for path in ("/ws/x", path_of("/ws/{client_id}"), "/auth/me"):
        for origin in ORIGINS:
            got = socket_status(target, path, bearer | {"Origin": origin or "null"})
            refused(got == 403, f"{path} from {origin!r}: {got}")
        for host in ("evil.example", "localhost.evil.example"):
            connection = http.client.HTTPConnection(*target.replica.address, timeout=10)
            connection.putrequest("GET", path, skip_host=True)
            for name, value in (
                bearer
                | {
                    "Host": host,
                    "Upgrade": "websocket",
                    "Connection": "Upgrade",
                    "Sec-WebSocket-Version": "13",
                    "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
                }
            ).items():
                connection.putheader(name, value)
            connection.endheaders()
            refused(connection.getresponse().status == 421, f"{path} as {host}")
            connection.close()
        got = socket_status(target, path, {"Cookie": f"forge-session={target.session('admin')}"})
        refused(got in (401, 403, 404), f"{path} by a cookie: {got}")


@attack("origins")
def a_cookie_is_sent_along(target: Target) -> None:
    """What a browser sends when a foreign page makes it post a form, or show a picture."""
    cookie = f"forge-session={target.session('admin')}"
    for method, path in (
        ("POST", "/auth/refresh"),
        ("POST", "/auth/logout"),
        ("DELETE", "/auth/keys/x"),
        ("PUT", "/auth/refresh"),
    ):
        for headers in (
            {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"},
            {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "no-cors"},
            {"Sec-Fetch-Site": "cross-site", "Origin": "null"},
            {"Origin": "http://127.0.0.1:1"},
        ):
            with target.http(Cookie=cookie, **headers) as http:
                kind = {"Content-Type": "text/plain"}
                answer = http.request(method, path, content=b"{}", headers=kind)
                refused(answer.status_code == 403, f"{method} {path} {headers}: {answer.status_code}")
    with target.http(Cookie=cookie) as http:
        refused(http.get("/auth/me").status_code == 401, "a cookie alone says who asks")
        refused(http.post("/auth/refresh").status_code == 200, "the session has been ended by a foreign page")


@attack("origins")
def a_page_of_ours_in_a_frame(target: Target) -> None:
    with target.http("admin") as http:
        for path in (*PATHS, "/healthz", "/phases/runs/none"):
            if path == "/mcp":  # a stream without an end
                continue
            answer = http.get(path)
            policy = answer.headers.get("content-security-policy", "")
            refused("frame-ancestors 'none'" in policy and "unsafe" not in policy, f"{path}: {policy}")
            refused(answer.headers.get("x-content-type-options") == "nosniff", path)
