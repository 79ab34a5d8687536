"""Tokens of an identity provider: a real one's keys by HTTP, forged ones, roles."""

from __future__ import annotations

import http.server
import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from pipelines.control.auth.credentials import by_token
from pipelines.control.auth.oidc import Provider
from pipelines.control.auth.principals import change
from pipelines.control.errors import Refused


class Issuer:
    """An identity provider: its description and its keys."""

    def __init__(self) -> None:
        self.key = rsa.generate_private_key(65537, 2048)
        self.asked: list[str] = []
        outer = self

        class Answers(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append(self.path)
                jwk = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(outer.key.public_key()))
                body = {"keys": [jwk | {"kid": "one", "use": "sig", "alg": "RS256"}]}
                if self.path.endswith("openid-configuration"):
                    body = {"issuer": outer.url, "jwks_uri": f"{outer.url}/keys"}  # type: ignore[dict-item]
                self.send_response(200)
                self.end_headers()
                self.wfile.write(json.dumps(body).encode())

            def log_message(self, *_: Any) -> None:
                """Nothing."""

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def token(self, key: Any = None, kid: str = "one", **given: Any) -> str:
        claims = {
            "iss": self.url, "aud": "forge", "sub": "u1", "exp": int(time.time()) + 60,
            "forge_role": ["viewer", "operator"], "preferred_username": "ulla",
        } | given  # fmt: skip
        whole = {name: value for name, value in claims.items() if value is not None}
        return jwt.encode(whole, key or self.key, "RS256", headers={"kid": kid})


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    made = Issuer()
    yield made
    made.server.shutdown()


@pytest.fixture
def federated(control, issuer):
    settings = control.settings.model_copy(update={"oidc_issuer": issuer.url, "oidc_audience": "forge"})
    control.provider = Provider(settings)
    return control


async def test_a_token_of_the_provider_says_who_asks(federated, issuer):
    who = await by_token(federated, issuer.token())
    assert who.role == "operator" and who.name.startswith("ulla") and who.credential == "oidc"
    assert (await by_token(federated, issuer.token(forge_role="admin"))).id == who.id
    assert (await by_token(federated, issuer.token(forge_role="admin"))).role == "admin"
    assert issuer.asked == ["/.well-known/openid-configuration", "/keys"]  # once
    async with federated.database.write() as connection:
        await change(connection, who.id, disabled=True)
    with pytest.raises(Refused):
        await by_token(federated, issuer.token())


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ({"iss": "https://evil.example"}, 401), ({"aud": "other"}, 401), ({"exp": None}, 401), ({"sub": None}, 401),
        ({"exp": 1_000_000_000}, 401), ({"forge_role": "root"}, 403), ({"forge_role": None}, 403),
        ({"forge_role": {"admin": 1}}, 403), ({"kid": "two"}, 401),
    ],
    ids=str,
)  # fmt: skip
async def test_a_token_that_is_not_for_us_is_refused(federated, issuer, given, status):
    with pytest.raises(Refused) as refused:
        await by_token(federated, issuer.token(**given))
    assert refused.value.status == status


async def test_a_forged_one_is_refused_and_asks_the_provider_nothing_more(federated, issuer):
    other = rsa.generate_private_key(65537, 2048)
    for token in (issuer.token(key=other), *[issuer.token(key=other, kid=f"k{n}") for n in range(20)]):
        with pytest.raises(Refused):
            await by_token(federated, token)
    assert len(issuer.asked) == 2
    public = issuer.key.public_key()
    secret = json.dumps(jwt.algorithms.RSAAlgorithm.to_jwk(public))
    with pytest.raises(Refused):
        await by_token(federated, jwt.encode({"sub": "u1", "iss": issuer.url}, secret, "HS256"))
