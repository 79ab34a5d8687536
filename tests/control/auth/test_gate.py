"""What every request passes: names, pages, bodies, limits, the audit."""

from __future__ import annotations

import json
import logging
import math

import pytest

from pipelines.control.api.app import application
from pipelines.control.auth import principals, sessions
from pipelines.control.auth.guard import routes, unguarded
from pipelines.control.auth.rate import Limiter
from pipelines.control.errors import Refused
from pipelines.control.settings import ControlSettings


def asked_by(key: str) -> dict[str, str]:
    return {"X-API-Key": key}


async def test_nobody_is_known_without_a_credential(http):
    answer = await http.get("/auth/me")
    assert (
        answer.status_code == 401 and answer.json()["what"] == "Unauthorized" and answer.json()["request_id"]
    )
    assert answer.headers["www-authenticate"] == "Bearer"


async def test_a_key_a_token_and_a_session_say_who_asks(http, control, key_of):
    key = await key_of("operator", "olga")
    me = (await http.get("/auth/me", headers=asked_by(key))).json()
    assert me["name"] == "olga" and me["role"] == "operator" and "execute" in me["rights"]["phases"]
    token = (await http.post("/auth/token", headers=asked_by(key))).json()["access_token"]
    assert (await http.get("/auth/me", headers={"Authorization": f"Bearer {token}"})).json() == me
    async with control.database.write() as connection:
        link = await sessions.make_link(connection, me["id"])
    answer = await http.post("/auth/exchange", json={"link": link})
    assert answer.json()["principal"] == me
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=strict" in cookie and "Path=/auth" in cookie
    answer = await http.post("/auth/refresh")
    assert answer.status_code == 200
    bearer = {"Authorization": f"Bearer {answer.json()['access_token']}"}
    assert (await http.post("/auth/logout")).status_code == 204
    assert (await http.get("/auth/me", headers=bearer)).status_code == 401


async def test_a_scoped_key_cannot_give_itself_more(http, key_of):
    scoped = asked_by(await key_of("admin", scopes=["keys:write", "keys:read"]))
    for body in ({"name": "x"}, {"name": "x", "scopes": ["phases:delete"]}):
        assert (await http.post("/auth/keys", json=body, headers=scoped)).status_code == 403
    assert (
        await http.post("/auth/keys", json={"name": "x", "scopes": ["keys:read"]}, headers=scoped)
    ).status_code == 201
    assert (
        await http.post("/auth/principals", json={"name": "x", "role": "admin"}, headers=scoped)
    ).status_code == 403
    me = (await http.get("/auth/me", headers=scoped)).json()
    assert (await http.post(f"/auth/principals/{me['id']}/link", headers=scoped)).status_code == 403
    assert (await http.patch(f"/auth/principals/{me['id']}", json={}, headers=scoped)).status_code == 403


async def test_keys_are_made_listed_and_revoked(http, key_of):
    admin = asked_by(await key_of("admin"))
    made = (await http.post("/auth/keys", json={"name": "ci", "days": 1}, headers=admin)).json()
    listed = await http.get("/auth/keys", headers=admin)
    assert made["id"] in [row["id"] for row in listed.json()] and made["key"] not in listed.text
    assert (await http.get("/auth/me", headers=asked_by(made["key"]))).status_code == 200
    assert (await http.delete(f"/auth/keys/{made['id']}", headers=admin)).status_code == 204
    assert (await http.get("/auth/me", headers=asked_by(made["key"]))).status_code == 401
    assert (await http.delete("/auth/keys/none", headers=admin)).status_code == 404


async def test_a_role_that_changes_counts_from_the_next_request_on(http, key_of):
    admin, key = asked_by(await key_of("admin")), asked_by(await key_of("viewer"))
    me = (await http.get("/auth/me", headers=key)).json()
    answer = await http.patch(f"/auth/principals/{me['id']}", json={"role": "operator"}, headers=admin)
    assert answer.json()["role"] == "operator"
    assert (await http.get("/auth/me", headers=key)).json()["role"] == "operator"
    await http.patch(f"/auth/principals/{me['id']}", json={"disabled": True}, headers=admin)
    assert (await http.get("/auth/me", headers=key)).status_code == 401


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "evil@localhost", "", "localhost:x", "127.0.0.2"]
)
async def test_a_name_that_is_not_ours_is_refused(http, host):
    assert (await http.get("/auth/me", headers={"Host": host})).status_code == 421


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD"])
@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:3000.evil.example"},
        {"Origin": "http://localhost:3001"},
        {"Origin": "https://localhost"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "no-cors"},
    ],
    ids=lambda headers: " ".join(headers.values()),
)
async def test_a_foreign_page_is_refused_whatever_it_asks(http, method, headers):
    answer = await http.request(method, "/auth/me", headers=headers)
    assert answer.status_code == 403 and "access-control-allow-origin" not in answer.headers


async def test_the_pages_of_the_settings_may_ask_with_credentials(http):
    for origin in ("http://localhost:3000", "http://localhost"):
        assert (await http.get("/auth/me", headers={"Origin": origin})).status_code == 401
    answer = await http.options(
        "/auth/me", headers={"Origin": "http://localhost:3000", "Access-Control-Request-Method": "DELETE"}
    )
    assert answer.headers["access-control-allow-origin"] == "http://localhost:3000"
    assert answer.headers["access-control-allow-credentials"] == "true"


async def test_a_link_from_elsewhere_may_be_followed(http):
    headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert (await http.get("/auth/me", headers=headers)).status_code == 401
    assert (await http.post("/auth/me", headers=headers)).status_code == 403


@pytest.mark.parametrize(
    "body",
    [
        b'{"link": NaN}', b'{"link": 1e999}', b'{"link": "\\ud800"}', b'{"link": "\\u0000"}', b'{"link": "a", "link": "b"}',
        b"[" * 100_000,
        b'{"a":' * 100 + b"1" + b"}" * 100, b"\xff\xfe", b"{", b"1" * 5000, b'{"link": "' + b"x" * 300 + b'"}',
        b'{"link": -Infinity}', b"null", b'{"link": "a", "more": 1}',
    ],
    ids=lambda body: repr(body[:24]),
)  # fmt: skip
async def test_a_body_that_means_nothing_is_422_and_is_not_repeated(http, body):
    answer = await http.post("/auth/exchange", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422 and set(answer.json()) >= {"what", "request_id"}
    assert "xxxx" not in answer.text


async def test_a_body_that_is_too_large_is_refused(http):
    async def chunks():
        for _ in range(40):
            yield b" " * 65536

    for content in (b" " * (2 << 20), chunks()):
        answer = await http.post(
            "/auth/exchange", content=content, headers={"Content-Type": "application/json"}
        )
        assert answer.status_code == 413 and answer.json()["what"]


async def test_a_hundred_a_minute_of_each_principal_whatever_key_or_address_they_say(http, control, key_of):
    one, other = await key_of("viewer"), await key_of("viewer")
    answers = [
        await http.get("/auth/me", headers=asked_by(one) | {"X-Forwarded-For": f"10.0.0.{n}"})
        for n in range(110)
    ]
    assert [answer.status_code for answer in answers] == [200] * 100 + [429] * 10
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 60
    assert (await http.get("/auth/me", headers=asked_by(other))).status_code == 200
    assert all([(await http.get("/healthz")).status_code == 200 for _ in range(120)])


async def test_five_attempts_to_sign_in_a_minute(http):
    codes = [(await http.post("/auth/exchange", json={"link": f"fl_{n}"})).status_code for n in range(7)]
    assert codes == [401] * 5 + [429] * 2


async def test_unknown_askers_are_counted_by_their_address(http):
    codes = [(await http.get("/auth/me", headers=asked_by(f"fk_{n}"))).status_code for n in range(102)]
    assert codes == [401] * 100 + [429] * 2


async def test_replicas_count_together_in_redis_and_alone_without_it(redis):
    replicas = [Limiter(redis) for _ in range(3)]
    through = 0
    for n in range(30):
        try:
            await replicas[n % 3].take("principal:a", 10)
            through += 1
        except Refused:
            pass
    assert through == 10
    alone = Limiter("redis://127.0.0.1:1")
    for _ in range(10):
        await alone.take("principal:a", 10)
    with pytest.raises(Refused):
        await alone.take("principal:a", 10)


async def test_what_changes_something_or_is_refused_is_in_the_audit(http, key_of):
    admin, viewer = asked_by(await key_of("admin", "ada")), asked_by(await key_of("viewer", "vera"))
    await http.post("/auth/principals", json={"name": "new"}, headers=admin)
    await http.get("/auth/audit", headers=viewer)
    await http.get("/auth/me")
    first = (await http.get("/auth/audit?limit=2", headers=admin)).json()
    rest = (await http.get(f"/auth/audit?cursor={first['next']}", headers=admin)).json()
    rows = [(row["name"], row["action"], row["outcome"]) for row in first["rows"] + rest["rows"]]
    assert rows == [
        ("", "GET /auth/me", "401"), ("vera", "GET /auth/audit", "403"), ("ada", "POST /auth/principals", "201"),
    ]  # fmt: skip
    assert rest["next"] is None


async def test_every_answer_has_the_headers_that_protect_a_browser(http):
    for path in ("/healthz", "/auth/me", "/no/such/route"):
        answer = await http.get(path)
        policy = answer.headers["content-security-policy"]
        assert (
            "unsafe" not in policy and "frame-ancestors 'none'" in policy and "default-src 'none'" in policy
        )
        assert answer.headers["x-content-type-options"] == "nosniff" and answer.headers["x-request-id"]
        assert answer.headers["cache-control"] == "no-store"


async def test_the_log_has_routes_and_no_values(http, caplog, key_of):
    key = await key_of("admin")
    with caplog.at_level(logging.INFO, "forge.access"):
        await http.delete(
            "/auth/keys/canary-1?token=canary-2", headers=asked_by(key) | {"X-Request-ID": "a" * 12}
        )
        await http.get("/canary-3%0d%0a")
    lines = [json.loads(record.getMessage()) for record in caplog.records if record.name == "forge.access"]
    assert (
        lines[0]["route"] == "/auth/keys/{id}"
        and lines[0]["status"] == 404
        and lines[0]["request"] == "a" * 12
    )
    assert math.isfinite(lines[0]["ms"]) and lines[0]["principal"]
    assert "canary" not in json.dumps(lines)


async def test_no_link_can_be_made_for_nobody(http, key_of, control):
    admin = asked_by(await key_of("admin"))
    assert (await http.post("/auth/principals/none/link", headers=admin)).status_code == 404
    async with control.database.read() as connection:
        with pytest.raises(Refused):
            await principals.by_name(connection, "nobody")


def test_a_route_that_forgets_its_right_does_not_start():
    from fastapi import APIRouter

    app = application(ControlSettings())
    assert unguarded(app) == [] and len(routes(app)) > 20
    router = APIRouter(prefix="/deep")
    router.add_api_route("/forgotten", lambda: None)
    router.add_api_websocket_route("/socket", lambda: None)
    app.include_router(router)
    assert unguarded(app) == ["/deep/forgotten", "/deep/socket"]
