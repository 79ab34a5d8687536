"""More requests than are allowed: by forged headers, by several keys, over replicas."""

from __future__ import annotations

import itertools

from tests.attack_api.attack import attack, refused
from tests.attack_api.target import Target

ADDRESSES = ("X-Forwarded-For", "X-Real-IP", "Forwarded", "True-Client-IP", "CF-Connecting-IP", "X-Client-IP")


@attack("rate")
def by_several_keys_and_replicas_and_forged_addresses(target: Target) -> None:
    """150 requests of one principal, by its two keys, to all replicas: 100 are answered."""
    replicas = target.limited if target.redis else target.limited[:1]
    clients = [
        target.http(key, replica=replica) for replica in replicas for key in ("limited", "limited twice")
    ]
    answered, told = 0, True
    for number, client in zip(range(150), itertools.cycle(clients), strict=False):
        forged = {name: f"10.{number}.0.1" for name in ADDRESSES} | {"Forwarded": f"for=10.{number}.0.1"}
        answer = client.get("/auth/me", headers=forged)
        answered += answer.status_code == 200
        told &= answer.status_code == 200 or 1 <= int(answer.headers.get("retry-after", 0)) <= 60
    refused(answered == 100, f"{answered} of 150 were answered")
    refused(told, "no Retry-After")


@attack("rate")
def by_guessing_keys(target: Target) -> None:
    """After a hundred guesses of an address no more are looked at."""
    codes = []
    with target.http(replica=target.limited[0]) as http:
        for number in range(130):
            headers = {"X-API-Key": f"fk_{number:043d}", "X-Forwarded-For": f"10.0.0.{number}"}
            codes.append(http.get("/auth/me", headers=headers).status_code)
    refused(codes.count(401) <= 100 and codes[-1] == 429, f"{codes.count(401)} guesses")
    refused(
        target.http("viewer", replica=target.limited[0]).get("/auth/me").status_code == 200,
        "a known one is shut out",
    )


@attack("rate")
def by_guessing_links(target: Target) -> None:
    codes = []
    for number, replica in zip(range(8), itertools.cycle(target.limited), strict=False):
        with target.http(replica=replica) as http:
            answer = http.post(
                "/auth/exchange",
                json={"link": f"fl_{number}"},
                headers={"X-Forwarded-For": f"10.9.9.{number}"},
            )
            codes.append(answer.status_code)
    allowed = 5 if target.redis else 5 * len(target.limited)
    refused(codes.count(401) <= allowed and codes[-1] == 429, str(codes))
