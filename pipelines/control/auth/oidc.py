"""Tokens of one identity provider, whose address is a setting: nothing in a token chooses where its key comes from."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
import urllib.request
from typing import Any
from urllib.parse import urlsplit

import jwt
from sqlalchemy import insert, select, update
from sqlalchemy.exc import IntegrityError

from components.shared.runtime.errors import StoreError

from ..errors import Refused
from ..settings import ControlSettings
from ..store.database import Database, now
from ..store.tables import principal as principals
from .keys import sha256
from .principals import ROLES
from .rights import Principal, Role
from .tokens import LONGEST, unauthorized

ALGORITHMS = ["RS256", "ES256"]
FRESH = 300.0
"""Seconds for which the provider's keys are kept."""

PATIENCE = 30.0
"""Seconds between two look-ups because of a key that is not known, so that forged tokens are no lever."""

LARGEST = 1 << 20


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


class Provider:
    """The identity provider of the settings."""

    def __init__(self, settings: ControlSettings) -> None:
        self.issuer = settings.oidc_issuer
        self.audience = settings.oidc_audience
        self.claim = settings.oidc_role_claim
        self._keys: dict[str, jwt.PyJWK] = {}
        self._looked = float("-inf")
        self._looking = asyncio.Lock()

    async def read(self, token: str) -> dict[str, Any]:
        """The claims of a token of theirs.

        :raises Refused: 401.
        :raises StoreError: the provider does not answer.
        """
        if len(token) > 2 * LONGEST:
            raise unauthorized("this is no token of the identity provider")
        try:
            key = await self._key(str(jwt.get_unverified_header(token).get("kid", "")))
            claims = jwt.decode(
                token,
                key.key,
                algorithms=[key.algorithm_name] if key.algorithm_name in ALGORITHMS else [],
                issuer=self.issuer,
                audience=self.audience,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        except (jwt.PyJWTError, ValueError, TypeError):
            raise unauthorized("this is no token of the identity provider that holds") from None
        return claims

    async def _key(self, kid: str) -> jwt.PyJWK:
        async with self._looking:
            age = time.monotonic() - self._looked
            if age > FRESH or (kid not in self._keys and age > PATIENCE):
                self._keys = await asyncio.to_thread(self._fetched)
                self._looked = time.monotonic()
        if kid not in self._keys:
            raise unauthorized("the identity provider has no such key")
        return self._keys[kid]

    def _fetched(self) -> dict[str, jwt.PyJWK]:
        described = _json(f"{self.issuer.rstrip('/')}/.well-known/openid-configuration")
        if described.get("issuer") != self.issuer:
            raise StoreError("the identity provider calls itself something else", where="FORGE_OIDC_ISSUER")
        found = _json(str(described.get("jwks_uri", ""))).get("keys", [])
        usable = [key for key in found if key.get("use", "sig") == "sig" and key.get("kty") in ("RSA", "EC")]
        return {key.key_id or "": key for key in map(jwt.PyJWK.from_dict, usable)}

    def role_of(self, claims: dict[str, Any]) -> Role:
        """The highest of our roles that a token's claim names.

        :raises Refused: 403: none.
        """
        said = claims.get(self.claim, [])
        said = [said] if isinstance(said, str) else said
        held = [role for role in ROLES if isinstance(said, list) and role in said]
        if not held:
            raise Refused(
                403,
                "the identity provider gives you no role here",
                where=self.claim,
                fix=f"ask its admin for one of {', '.join(ROLES)} in this claim",
            )
        return held[-1]


def _json(address: str) -> dict[str, Any]:
    parts = urlsplit(address)
    if parts.scheme != "https" and parts.hostname not in ("127.0.0.1", "localhost", "::1"):
        raise StoreError("an identity provider is asked by https", where="FORGE_OIDC_ISSUER")
    opener = urllib.request.build_opener(_NoRedirect)
    try:
        with opener.open(address, timeout=5) as answer:
            found = json.loads(answer.read(LARGEST))
    except (OSError, ValueError) as error:
        raise StoreError(
            "the identity provider does not answer",
            where="FORGE_OIDC_ISSUER",
            why=str(error)[:200],
            transient=True,
        ) from error
    return found if isinstance(found, dict) else {}


async def known(database: Database, provider: Provider, claims: dict[str, Any]) -> Principal:
    """The principal of a token; written down when it comes first, or with another role.

    :raises Refused: it is shut out, or has no role.
    """
    role = provider.role_of(claims)
    subject = f"{provider.issuer}|{claims['sub']}"
    id = f"oidc-{sha256(subject)[:40]}"  # from the subject: two replicas that see it first agree
    async with database.read() as connection:
        row = (await connection.execute(select(principals).where(principals.c.id == id))).first()
    if row is None:
        said = str(claims.get("preferred_username") or claims.get("email") or "")
        name = f"{said[:100] if said.isprintable() else ''} (oidc {id[5:13]})".strip()
        with contextlib.suppress(IntegrityError):  # another replica was faster
            async with database.write() as connection:
                await connection.execute(
                    insert(principals).values(
                        id=id, name=name, role=role, subject=subject[:400], created=now(), disabled=False
                    )
                )
        return Principal(id, name, role, credential="oidc", expires=float(claims["exp"]))
    if row.disabled:
        raise unauthorized("this principal has been shut out")
    if row.role != role:
        async with database.write() as connection:
            await connection.execute(update(principals).where(principals.c.id == id).values(role=role))
    return Principal(id, row.name, role, credential="oidc", expires=float(claims["exp"]))
