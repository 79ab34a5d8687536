"""An attack: a function that asks what nobody may have, and says what it got."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.attack_api.target import Target

Attempt = Callable[["Target"], None]


class Through(AssertionError):
    """An attack got through."""


@dataclass(frozen=True)
class Attack:
    """One attack.

    :param area: what it is about: rights, tokens, …
    :param slow: it waits for a deadline of the server, or asks each route very much: only `make attack-api` makes it.
    """

    area: str
    name: str
    attempt: Attempt
    slow: bool

    def __str__(self) -> str:
        return f"{self.area}: {self.name}"


ATTACKS: list[Attack] = []


def attack(area: str, *, slow: bool = False) -> Callable[[Attempt], Attempt]:
    """Make a function an attack; its name says which."""

    def made(attempt: Attempt) -> Attempt:
        ATTACKS.append(Attack(area, attempt.__name__.replace("_", " "), attempt, slow))
        return attempt

    return made


def refused(condition: object, what: str) -> None:
    """:raises Through: what ought to have been refused was not."""
    if not condition:
        raise Through(what)
