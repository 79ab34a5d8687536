"""One code for each tensor: the least harm for the bytes.

Every tensor has points (bytes, harm), harm being the expected rise of the model's loss. Harms add up over tensors, so
the best choice at a price λ a byte takes of each tensor the point of least harm + λ·bytes (Shoham and Gersho, 1988).
As λ falls from infinity the choice walks up the lower convex hulls, always taking the step that saves most harm a
byte: `frontier` is that walk, and each of its choices is the best there is for its number of bytes.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Offer:
    """A code that a tensor may be given. harm: the expected rise of the loss, nats a token."""

    name: str
    bytes: int
    harm: float


@dataclass(frozen=True)
class Choice:
    """A code for every tensor, by the tensor's path; bytes and harm together."""

    names: Mapping[str, str]
    bytes: int
    harm: float


def hull(offers: Sequence[Offer]) -> list[Offer]:
    """The offers on the lower convex hull, by rising bytes: harm falls, and by less a byte from step to step."""
    best: list[Offer] = []
    for offer in sorted(offers, key=lambda o: (o.bytes, o.harm, o.name)):
        if best and offer.harm >= best[-1].harm:
            continue  # more bytes for no less harm
        while len(best) > 1 and slope(best[-2], offer) >= slope(best[-2], best[-1]):
            best.pop()
        best.append(offer)
    return best


def slope(cheaper: Offer, dearer: Offer) -> float:
    """Harm saved for each byte more."""
    return (cheaper.harm - dearer.harm) / max(dearer.bytes - cheaper.bytes, 1e-9)


def frontier(tensors: Mapping[str, Sequence[Offer]]) -> list[Choice]:
    """Every choice that is best at some price, from the fewest bytes to the least harm."""
    hulls = {path: hull(offers) for path, offers in tensors.items()}
    names = {path: offers[0].name for path, offers in hulls.items()}
    total = sum(offers[0].bytes for offers in hulls.values())
    harm = sum(offers[0].harm for offers in hulls.values())
    steps = [
        (-slope(*offers[:2]), path, 1) for path, offers in sorted(hulls.items()) if len(offers) > 1
    ]  # fmt: skip
    heapq.heapify(steps)
    choices = [Choice(dict(names), total, harm)]
    while steps:
        _, path, at = heapq.heappop(steps)
        offers = hulls[path]
        names[path] = offers[at].name
        total += offers[at].bytes - offers[at - 1].bytes
        harm += offers[at].harm - offers[at - 1].harm
        choices.append(Choice(dict(names), total, harm))
        if at + 1 < len(offers):
            heapq.heappush(steps, (-slope(offers[at], offers[at + 1]), path, at + 1))
    return choices


def within(choices: Sequence[Choice], budget: int) -> Choice | None:
    """The choice of least harm that costs at most `budget` bytes; None when even the first costs more."""
    fitting = [choice for choice in choices if choice.bytes <= budget]
    return fitting[-1] if fitting else None
