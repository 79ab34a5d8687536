"""Short-lived tokens: JWT, signed with HS256 by the one secret that all replicas have.

A token says who (`sub`) and by which credential they came (`credential`). What they may is looked up at each request: a
revoked key, an ended session or a changed role counts at once. The header of a token chooses nothing: `kid`, `jku` and
`x5u` are not read, and the algorithm is fixed.
"""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass

import jwt

from ..errors import Refused

ISSUER = "agent-forge"
AUDIENCE = "agent-forge-api"
ALGORITHM = "HS256"
LIFETIME = 15 * 60
"""Seconds."""

SKEW = 5
"""Seconds by which the clocks of two replicas may differ."""

LONGEST = 8192
"""Characters: nobody's token is longer."""


@dataclass(frozen=True)
class Claims:
    """What a token says.

    :param credential: "key:<id>" or "session:<family>".
    """

    principal: str
    credential: str
    expires: float


def unauthorized(why: str = "", fix: str = "give a token in Authorization, or a key in X-API-Key") -> Refused:
    """Nobody that is known."""
    return Refused(401, "Unauthorized", why=why, fix=fix, headers={"WWW-Authenticate": "Bearer"})


def issue(secret: str, principal: str, credential: str, *, lifetime: int = LIFETIME) -> tuple[str, float]:
    """A new token.

    :returns: it, and when it expires (Unix seconds).
    """
    issued = int(time.time())
    claims = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": principal,
        "credential": credential,
        "iat": issued,
        "nbf": issued - SKEW,
        "exp": issued + lifetime,
        "jti": uuid.uuid4().hex,
    }
    return jwt.encode(claims, secret, algorithm=ALGORITHM), float(issued + lifetime)


def read(secret: str, token: str) -> Claims:
    """What a token says, where it is ours and holds.

    :raises Refused: 401.
    """
    if len(token) > LONGEST:
        raise unauthorized("this is no token of ours")
    try:
        claims = jwt.decode(
            token,
            secret,
            algorithms=[ALGORITHM],
            issuer=ISSUER,
            audience=AUDIENCE,
            leeway=0,
            options={"require": ["exp", "nbf", "iat", "iss", "aud", "sub", "credential"]},
        )
        if float(claims["exp"]) > time.time() + LIFETIME + SKEW:
            raise unauthorized("this is no token of ours")  # none of ours lives as long
        return Claims(str(claims["sub"]), str(claims["credential"]), float(claims["exp"]))
    except jwt.ExpiredSignatureError:
        raise unauthorized("the token has expired", fix="ask for a new one: POST /auth/refresh") from None
    except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
        raise unauthorized("this is no token of ours") from None
