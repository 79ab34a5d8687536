"""TLS to Postgres and Redis: 1.3 or none at all. What an address asks for is what it gets, or no connection."""

from __future__ import annotations

import ssl
from typing import Any

from sqlalchemy.engine import URL

from components.shared.runtime.errors import ConfigError

LEAST = ssl.TLSVersion.TLSv1_3
UNCHECKED = ("disable", "allow", "prefer")
"""Modes of libpq in which TLS is no condition: the driver does them."""
CHECKED = ("require", "verify-ca", "verify-full")
"""Modes without TLS no connection: any certificate; one of a known authority; one that is the host's, too."""
FILES = ("sslrootcert", "sslcert", "sslkey")


def of_postgres(address: URL) -> tuple[URL, dict[str, Any]]:
    """What libpq reads in an address and the driver does not: `sslmode`, `sslrootcert`, `sslcert` and `sslkey`.

    :returns: the address without them, and what the driver is given instead.
    :raises ConfigError: there is no such mode, or a file cannot be read.
    """
    said = {name: _last(address.query[name]) for name in ("ssl", "sslmode", *FILES) if name in address.query}
    mode = said.get("sslmode") or said.get("ssl") or ""
    address = address.difference_update_query(list(said))
    if not mode:
        return address, {}
    if mode in UNCHECKED:
        return address, {"ssl": mode}
    if mode not in CHECKED:
        raise ConfigError(
            "the database's address asks for TLS in no known way",
            where="DATABASE_URL",
            why="its sslmode is none of libpq's",
            fix=f"give sslmode={'|'.join((*UNCHECKED, *CHECKED))}",
        )
    root = said.get("sslrootcert") or None
    try:
        context = ssl.create_default_context(cafile=root if root != "system" else None)
        if said.get("sslcert"):
            context.load_cert_chain(said["sslcert"], said.get("sslkey"))
    except OSError as error:
        raise ConfigError(
            "a certificate for the database cannot be read",
            where="DATABASE_URL",
            why=str(error),
            fix=f"give PEM files as {', '.join(FILES)}",
        ) from None
    context.minimum_version = LEAST
    context.check_hostname = mode == "verify-full"
    if mode == "require" and root is None:
        context.verify_mode = ssl.CERT_NONE
    return address, {"ssl": context}


def of_redis(url: str) -> dict[str, Any]:
    """What a client of Redis is given beside its address."""
    return {"ssl_min_version": LEAST} if url.startswith("rediss://") else {}


def _last(value: str | tuple[str, ...]) -> str:
    return value if isinstance(value, str) else value[-1]
