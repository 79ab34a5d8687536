"""TLS to Postgres and Redis, which are real and have a certificate of their own: 1.3, or no connection."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlalchemy import text

from components.shared.runtime.errors import ConfigError, StoreError
from pipelines.control.auth.rate import Limiter
from pipelines.control.cache.key import Key
from pipelines.control.cache.remote import Remote
from pipelines.control.store.database import Database
from pipelines.control.tls import of_redis
from tests.control import servers
from tests.needs import lacks

Certificate = tuple[Path, Path]


@pytest.fixture(scope="module")
def old_and_new(certificate: Certificate) -> Iterator[tuple[str, str]]:
    """The addresses of a Postgres that knows TLS 1.2 at most, and of one that knows 1.3."""
    programs = servers.postgres_programs()
    if programs is None:
        lacks("Postgres is not installed")
    with contextlib.ExitStack() as stack:
        addresses = []
        for newest in ("TLSv1.2", "TLSv1.3"):

            def prepare(data: Path, newest: str = newest) -> None:
                for source, name in zip(certificate, ("server.crt", "server.key"), strict=True):
                    shutil.copyfile(source, data / name)
                    os.chown(data / name, data.stat().st_uid, data.stat().st_gid)
                    os.chmod(data / name, 0o600)
                with (data / "postgresql.conf").open("a") as settings:
                    settings.write(f"ssl = on\nssl_max_protocol_version = '{newest}'\n")

            server = stack.enter_context(servers.postgres_server(programs, prepare=prepare))
            addresses.append(server.url("postgres"))
        yield addresses[0], addresses[1]


async def spoken(url: str) -> str | None:
    """Which TLS the database sees."""
    database = Database(url)
    try:
        async with database.read() as connection:
            asked = "SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
            version: str | None = await connection.scalar(text(asked))
            return version
    finally:
        await database.close()


async def test_postgres_is_spoken_to_by_tls_1_3_or_not_at_all(old_and_new, certificate: Certificate) -> None:
    old, new = old_and_new
    known = f"sslrootcert={certificate[0]}"
    assert await spoken(f"{new}?sslmode=disable") is None
    for asked in ("require", f"verify-ca&{known}", f"verify-full&{known}"):
        assert await spoken(f"{new}?sslmode={asked}") == "TLSv1.3"
        with pytest.raises(StoreError):
            await spoken(f"{old}?sslmode={asked}")


@pytest.mark.parametrize("asked", ["sslmode=verify-ca", "sslmode=verify-full", "ssl=verify-full"])
async def test_a_certificate_of_nobody_is_refused_where_it_is_looked_at(old_and_new, asked: str) -> None:
    with pytest.raises(StoreError, match="does not answer"):
        await spoken(f"{old_and_new[1]}?{asked}")


async def test_a_certificate_of_another_host_is_refused(old_and_new, certificate: Certificate) -> None:
    named = old_and_new[1].replace("127.0.0.1", "localhost")  # which the certificate does not name
    assert await spoken(f"{named}?sslmode=verify-ca&sslrootcert={certificate[0]}")
    with pytest.raises(StoreError):
        await spoken(f"{named}?sslmode=verify-full&sslrootcert={certificate[0]}")


@pytest.mark.parametrize("asked", ["sslmode=yes", "sslmode=verify-ca&sslrootcert=/no/such/file"])
def test_what_is_no_mode_and_no_file_is_said(asked: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Database(f"postgresql://me:secret@127.0.0.1/forge?{asked}")
    assert "DATABASE_URL" in str(refused.value) and "secret" not in str(refused.value)


@pytest.fixture
def redis_with(certificate: Certificate) -> Iterator[Callable[[str], str]]:
    """`redis_with("TLSv1.2")`: the address of a Redis that knows this version alone."""
    program = servers.redis_program()
    if program is None:
        lacks("redis-server is not installed")
    path, key = map(str, certificate)
    options = (
        "--tls-cert-file",
        path,
        "--tls-key-file",
        key,
        "--tls-ca-cert-file",
        path,
        "--tls-auth-clients",
        "no",
    )
    with contextlib.ExitStack() as stack:

        def started(version: str) -> str:
            tls = (*options, "--tls-protocols", version)
            return f"{stack.enter_context(servers.redis_server(program, tls)).url}?ssl_ca_certs={path}"

        yield started


async def test_redis_is_spoken_to_by_tls_1_3_or_not_at_all(redis_with: Callable[[str], str]) -> None:
    new, old = redis_with("TLSv1.3"), redis_with("TLSv1.2")
    async with Redis.from_url(new, **of_redis(new)) as client:
        assert await client.ping()
    async with Redis.from_url(old) as client:
        assert await client.ping(), "by itself the client takes what there is"
    async with Redis.from_url(old, **of_redis(old)) as client:
        with pytest.raises(RedisError):
            await client.ping()


async def test_all_that_stands_on_redis_says_so(redis_with: Callable[[str], str], caplog) -> None:
    key = Key.of("view", 1)
    for url, taken in ((redis_with("TLSv1.3"), True), (redis_with("TLSv1.2"), False)):
        caplog.clear()
        cache = Remote(url, 60.0)
        await cache.put(key, b"value")
        assert (await cache.get(key) == b"value") is taken
        await cache.close()
        await Limiter(url).take("principal:a", 100)
        assert ("counts requests alone" in caplog.text) is not taken
