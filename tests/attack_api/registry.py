"""All attacks, in the order in which they are made: the search for secrets is the last."""

from __future__ import annotations

from tests.attack_api.attack import ATTACKS, Attack
from tests.attack_api.classes import (
    bodies,
    confirmations,
    origins,
    paths,
    rate,
    rights,
    secrets,
    slow,
    sockets,
    tokens,
)

CLASSES = (rights, tokens, confirmations, rate, origins, bodies, paths, sockets, slow, secrets)


def attacks() -> list[Attack]:
    """All of them."""
    order = [module.__name__ for module in CLASSES]
    return sorted(ATTACKS, key=lambda attack: order.index(attack.attempt.__module__))
