"""Who is known, and until when."""

from __future__ import annotations

import base64
import json
import time

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from sqlalchemy import insert, select, text, update
from sqlalchemy.exc import DBAPIError

from components.shared.runtime.errors import InputError
from pipelines.control.auth import audit, keys, principals, sessions, tokens
from pipelines.control.auth.credentials import by_key, by_token
from pipelines.control.errors import Refused
from pipelines.control.settings import secret_of
from pipelines.control.store.tables import api_key, run

SECRET = "s" * 32


def claims(**given):
    now = int(time.time())
    whole = {
        "iss": tokens.ISSUER, "aud": tokens.AUDIENCE, "sub": "p", "credential": "key:k",
        "iat": now, "nbf": now, "exp": now + 60,
    }  # fmt: skip
    return {name: value for name, value in (whole | given).items() if value is not None}


def test_a_token_says_who_and_by_what():
    token, expires = tokens.issue(SECRET, "p", "key:k")
    read = tokens.read(SECRET, token)
    assert (read.principal, read.credential, read.expires) == ("p", "key:k", expires)
    assert 890 < expires - time.time() <= 900


@pytest.mark.parametrize(
    "given",
    [
        {"exp": None},
        {"exp": 1_000_000_000},
        {"nbf": 4_000_000_000},
        {"nbf": None},
        {"iss": "other"},
        {"iss": None},
        {"aud": "other"},
        {"aud": None},
        {"sub": None},
        {"credential": None},
        {"exp": "never"},
    ],
    ids=str,
)
def test_a_token_that_lacks_something_is_refused(given):
    token = jwt.encode(claims(**given), SECRET, "HS256")
    with pytest.raises(Refused) as refused:
        tokens.read(SECRET, token)
    assert refused.value.status == 401


def test_a_token_that_is_signed_otherwise_is_refused():
    key = rsa.generate_private_key(65537, 2048)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    header = base64.urlsafe_b64encode(json.dumps({"alg": "none"}).encode()).rstrip(b"=").decode()
    body = base64.urlsafe_b64encode(json.dumps(claims()).encode()).rstrip(b"=").decode()
    forged = [
        f"{header}.{body}.",
        jwt.encode(claims(), "x" * 32, "HS256"),
        jwt.encode(claims(), SECRET, "HS512"),
        jwt.encode(claims(), private, "RS256"),
        jwt.encode(claims(), "", "none"),
        "a.b.c",
        "",
        "x" * 100_000,
    ]
    for token in forged:
        with pytest.raises(Refused):
            tokens.read(SECRET, token)
        with pytest.raises(Refused):
            tokens.read(public.decode(), token)


async def test_only_the_hash_of_a_key_is_kept(control, key_of):
    key = await key_of("viewer")
    assert (await by_key(control.database, key)).role == "viewer"
    async with control.database.read() as connection:
        rows = (await connection.execute(select(api_key))).all()
    assert key not in str(rows) and keys.sha256(key) in str(rows)


async def test_a_revoked_key_and_its_tokens_are_worth_nothing_at_once(control, key_of):
    key = await key_of("operator")
    who = await by_key(control.database, key)
    token, _ = tokens.issue(secret_of(control.settings), who.id, who.credential)
    assert (await by_token(control, token)).id == who.id
    async with control.database.write() as connection:
        await keys.revoke(connection, who.credential.partition(":")[2])
    for asked in (by_key(control.database, key), by_token(control, token)):
        with pytest.raises(Refused, match="Unauthorized"):
            await asked


async def test_an_expired_key_and_a_principal_that_is_shut_out_are_refused(control, key_of):
    with pytest.raises(Refused):
        await by_key(control.database, await key_of("admin", seconds=-1.0))
    key = await key_of("viewer")
    who = await by_key(control.database, key)
    async with control.database.write() as connection:
        await principals.change(connection, who.id, disabled=True)
    with pytest.raises(Refused):
        await by_key(control.database, key)


async def test_a_token_may_what_its_key_may(control, key_of):
    who = await by_key(control.database, await key_of("operator", scopes=["phases:read"]))
    token, _ = tokens.issue(secret_of(control.settings), who.id, who.credential)
    again = await by_token(control, token)
    assert (
        again.may("phases", "read") and not again.may("phases", "execute") and not again.may("models", "read")
    )


async def test_a_token_is_for_its_own_principal_alone(control, key_of):
    mine, other = [await by_key(control.database, await key_of("viewer")) for _ in range(2)]
    token, _ = tokens.issue(secret_of(control.settings), other.id, mine.credential)
    with pytest.raises(Refused):
        await by_token(control, token)


async def test_a_scope_that_does_not_exist_is_refused(key_of):
    with pytest.raises(InputError):
        await key_of("viewer", scopes=["phases:everything"])


async def test_a_runs_token_dies_with_its_run(control):
    async with control.database.write() as connection:
        await connection.execute(insert(run).values(id="r", state="running", created=0.0))
        token = await keys.run_token(connection, "r")
    who = await by_key(control.database, token)
    assert (
        who.role == "run" and who.run == "r" and who.may("events", "write") and not who.may("events", "read")
    )
    async with control.database.write() as connection:
        await connection.execute(update(run).values(state="succeeded"))
    with pytest.raises(Refused):
        await by_key(control.database, token)


async def test_a_link_is_good_for_one_session_and_a_copied_refresh_token_ends_it(control):
    async with control.database.write() as connection:
        admin = await principals.first_admin(connection)
        link = await sessions.make_link(connection, admin)
    begun = await sessions.begin(control.database, link)
    with pytest.raises(Refused):
        await sessions.begin(control.database, link)
    token, _ = tokens.issue(secret_of(control.settings), begun.principal, begun.credential)
    second = await sessions.go_on(control.database, begun.refresh)
    assert (await sessions.go_on(control.database, begun.refresh)).refresh == ""  # two tabs in one moment
    third = await sessions.go_on(control.database, second.refresh)
    assert (await by_token(control, token)).role == "admin"
    async with control.database.write() as connection:
        await connection.execute(
            update(api_key).where(api_key.c.used.is_not(None)).values(used=api_key.c.used - 60)
        )
    with pytest.raises(Refused):
        await sessions.go_on(control.database, begun.refresh)
    with pytest.raises(Refused):
        await sessions.go_on(control.database, third.refresh)
    with pytest.raises(Refused):
        await by_token(control, token)


async def test_what_stays_open_ends_with_its_credential(control, key_of):
    key, other = await key_of("viewer"), await key_of("viewer")
    who, kept = await by_key(control.database, key), await by_key(control.database, other)
    with control.watch.held(who) as ended, control.watch.held(kept) as living:
        await control.watch.look()
        assert not ended.is_set() and not living.is_set()
        async with control.database.write() as connection:
            await keys.revoke(connection, who.credential.partition(":")[2])
        await control.watch.look()
        assert ended.is_set() and not living.is_set()


async def test_the_first_start_makes_one_admin_and_a_key_that_only_its_owner_reads(control):
    path = control.admin_key
    assert path is not None and path.stat().st_mode & 0o777 == 0o600
    assert (await by_key(control.database, path.read_text().strip())).role == "admin"
    assert await principals.first_start(control.settings, control.database) is None
    async with control.database.write() as connection:
        with pytest.raises(Refused, match="admin"):
            await principals.change(connection, await principals.first_admin(connection), role="viewer")


async def test_the_audit_is_only_added_to(control):
    async with control.database.write() as connection:
        await audit.record(connection, None, "POST /x", "o" * 1000, detail={"a": 1})
    for statement in ("UPDATE audit SET name = 'x'", "DELETE FROM audit"):
        with pytest.raises(DBAPIError, match="only added"):
            async with control.database.write() as connection:
                await connection.execute(text(statement))
    rows = await audit.page(control.database, None, 10)
    assert rows[0]["action"] == "POST /x" and len(rows[0]["object"]) == 400
