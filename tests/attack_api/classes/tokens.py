"""Forged tokens, and sessions that were copied."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from sqlalchemy import update

from pipelines.control.auth import keys, tokens
from pipelines.control.store.tables import api_key
from tests.attack_api.attack import attack, refused
from tests.attack_api.target import JWT_SECRET, Target


def claims(target: Target, **given: Any) -> dict[str, Any]:
    now = int(time.time())
    whole = {
        "iss": tokens.ISSUER,
        "aud": tokens.AUDIENCE,
        "sub": target.ids["admin"],
        "iat": now,
        "nbf": now,
        "exp": now + 600,
        "credential": f"key:{target.ids['key of admin']}",
    }
    return {name: value for name, value in (whole | given).items() if value is not None}


def status(target: Target, token: str) -> int:
    with target.http(Authorization=f"Bearer {token}") as http:
        return http.get("/auth/me").status_code


def part(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


@attack("tokens")
def a_true_one_is_taken(target: Target) -> None:
    """The check of the others: this one, which the forged ones differ from, is good."""
    refused(
        status(target, jwt.encode(claims(target), JWT_SECRET, "HS256")) == 200, "the true token is refused"
    )


@attack("tokens")
def without_a_signature(target: Target) -> None:
    body = part(claims(target))
    for algorithm in ("none", "None", "NONE", "nOnE", "", None):
        for signature in ("", "AAAA"):
            token = f"{part({'alg': algorithm, 'typ': 'JWT'})}.{body}.{signature}"
            refused(status(target, token) == 401, f"alg {algorithm}")
    refused(status(target, f"{part({'typ': 'JWT'})}.{body}.") == 401, "no alg")


@attack("tokens")
def signed_by_another_key_or_way(target: Target) -> None:
    key = rsa.generate_private_key(65537, 2048)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    whole = claims(target)
    forged = {
        "another secret": jwt.encode(whole, "x" * 32, "HS256"),
        "no secret": jwt.api_jws.encode(json.dumps(whole).encode(), b"\0" * 32, "HS256"),
        "RS256": jwt.encode(whole, private, "RS256"),
        "HS512 by the true secret": jwt.encode(whole, JWT_SECRET + "x" * 32, "HS512"),
        "HS384 by the true secret": jwt.encode(whole, JWT_SECRET, "HS384"),
        "the public key as a secret": jwt.api_jws.encode(json.dumps(whole).encode(), public[27:60], "HS256"),
    }
    for name, token in forged.items():
        refused(status(target, token) == 401, name)
    head, _, signature = jwt.encode(whole, JWT_SECRET, "HS256").split(".")
    refused(
        status(target, f"{head}.{part(whole | {'sub': target.ids['other']})}.{signature}") == 401,
        "another body",
    )


@attack("tokens")
def with_claims_that_are_missing_or_wrong(target: Target) -> None:
    now = int(time.time())
    for given in (
        {"exp": None},
        {"exp": now - 1},
        {"exp": "later"},
        {"exp": 1e300},
        {"nbf": now + 300},
        {"nbf": None},
        {"iat": None},
        {"iss": None},
        {"iss": "https://evil.example"},
        {"aud": None},
        {"aud": ["other"]},
        {"sub": None},
        {"sub": "nobody"},
        {"sub": "' OR 1=1 --"},
        {"credential": None},
        {"credential": "key:"},
        {"credential": "session:"},
        {"credential": "admin"},
        {"credential": "key:%"},
        {"credential": f"key:{target.ids['key of revoked']}"},
        {"sub": target.ids["viewer"]},
        {"credential": f"key:{target.ids['key of viewer']}"},
        {"sub": ["a"]},
        {"sub": 5},
    ):
        token = jwt.api_jws.encode(json.dumps(claims(target, **given)).encode(), JWT_SECRET, "HS256")
        refused(status(target, token) == 401, str(given))


@attack("tokens")
def whose_header_chooses_the_key(target: Target) -> None:
    key = rsa.generate_private_key(65537, 2048)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    jwk = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key()))
    for header in (
        {"kid": "../../../../dev/null"},
        {"kid": "' UNION SELECT 'x' --"},
        {"kid": "/proc/self/environ"},
        {"jku": "http://127.0.0.1:9/keys"},
        {"x5u": "http://127.0.0.1:9/cert"},
        {"jwk": jwk},
        {"x5c": ["AAAA"]},
        {"crit": ["exp"]},
        {"b64": False, "crit": ["b64"]},
        {"kid": "a" * 20_000},
    ):
        for secret, algorithm in (("", "HS256"), (private, "RS256")):
            try:
                token = jwt.encode(claims(target), secret, algorithm, headers=header)
            except (jwt.PyJWTError, TypeError, ValueError):  # the library would not even write it
                body = f"{part({'alg': algorithm} | header)}.{part(claims(target))}"
                token = f"{body}.{'A' * 43}"
            refused(status(target, token) in (401, 400), f"{header} {algorithm}")


@attack("tokens")
def that_are_no_tokens(target: Target) -> None:
    for token in (
        ".",
        "..",
        "a.b.c",
        "a" * 7000,
        "{}.{}.{}",
        "e30.e30.e30",
        "\\",
        "%00",
        part({"alg": "HS256"}) * 3,
        "fk_",
        "fl_x",
    ):
        refused(status(target, token) == 401, token[:30])
    for header in (
        "Basic YWRtaW46YWRtaW4=",
        "Bearer",
        "bearer",
        "Token x",
        f"Basic {target.keys['admin']}",
        "Bearer a b",
    ):
        with target.http(Authorization=header) as http:
            refused(http.get("/auth/me").status_code == 401, header)
    nested = base64.urlsafe_b64encode(b"[" * 5000).decode()
    refused(status(target, f"{nested}.{nested}.x") == 401, "deep")


@attack("tokens")
def a_link_used_twice(target: Target) -> None:
    link = target.link("viewer")
    with target.http() as http:
        refused(http.post("/auth/exchange", json={"link": link}).status_code == 200, "the link is no good")
    with target.http() as http:
        refused(http.post("/auth/exchange", json={"link": link}).status_code == 401, "a second session")


@attack("tokens")
def a_copied_refresh_token(target: Target) -> None:
    """The copy ends the session: its newest refresh token and its access token too."""
    cookie = f"forge-session={target.session('viewer')}"
    with target.http(Cookie=cookie) as http:
        gone_on = http.post("/auth/refresh")
    refused(gone_on.status_code == 200, "no second token")
    hashed = keys.sha256(cookie.partition("=")[2])
    target.in_database(
        lambda connection: connection.execute(
            update(api_key).where(api_key.c.sha256 == hashed).values(used=api_key.c.used - 60)
        )
    )
    with target.http(Cookie=cookie) as http:
        refused(http.post("/auth/refresh").status_code == 401, "the copy was good")
    with target.http(Cookie=gone_on.headers["set-cookie"].partition(";")[0]) as http:
        refused(http.post("/auth/refresh").status_code == 401, "the session goes on")
    refused(status(target, gone_on.json()["access_token"]) == 401, "its access token is still good")


@attack("tokens")
def one_kind_of_secret_as_another(target: Target) -> None:
    link = target.link("admin")
    for header in ({"X-API-Key": link}, {"Authorization": f"Bearer {link}"}):
        with target.http(**header) as http:
            refused(http.get("/auth/me").status_code == 401, "a link is no key")
    with target.http(Cookie=f"forge-session={target.keys['admin']}") as http:
        refused(http.post("/auth/refresh").status_code == 401, "a key is no refresh token")
    with target.http("run theirs") as http:
        refused(http.post("/auth/token").status_code in (403, 429), "a run's token becomes another")


@attack("keys")
def only_hashes_are_kept(target: Target) -> None:
    files = [path for path in target.folder.rglob("*") if path.is_file()]
    kept = b"".join(path.read_bytes() for path in files if path.name != "admin-key")
    for name, key in target.keys.items():
        refused(key.encode() not in kept, f"the key of {name} lies in a file")
    with target.http("admin") as http:
        for path in ("/auth/keys", "/auth/audit", "/auth/principals"):
            text = http.get(path).text
            refused(not any(key in text or keys.sha256(key) in text for key in target.keys.values()), path)


@attack("keys")
def revoked_on_one_replica(target: Target) -> None:
    """It is worth nothing on another within a second."""
    with target.http("admin") as http:
        made = http.post("/auth/keys", json={"name": "short"}).json()
    other = target.limited[0]
    with target.http(made["key"], replica=other) as there:
        refused(there.get("/auth/me").status_code == 200, "the key is no good")
        with target.http("admin") as http:
            refused(http.delete(f"/auth/keys/{made['id']}").status_code == 204, "not revoked")
        refused(there.get("/auth/me").status_code == 401, "still good on another replica")


@attack("keys")
def a_scoped_key_that_gives_itself_more(target: Target) -> None:
    with target.http("admin") as http:
        made = http.post("/auth/keys", json={"name": "s", "scopes": ["keys:write", "keys:read"]}).json()
    with target.http(made["key"]) as http:
        for path, body in (
            ("/auth/keys", {"name": "x"}),
            ("/auth/keys", {"name": "x", "scopes": ["keys:delete"]}),
            ("/auth/keys", {"name": "x", "scopes": ["keys:write", "phases:execute"]}),
            ("/auth/principals", {"name": "x", "role": "admin"}),
            (f"/auth/principals/{target.ids['admin']}/link", None),
        ):
            refused(http.post(path, json=body).status_code == 403, f"{path} {body}")
        patched = http.patch(f"/auth/principals/{target.ids['viewer']}", json={"role": "admin"})
        refused(patched.status_code == 403, "it made an admin")
