"""Linear mode connectivity: whether two parents can be averaged at all.

Source: Frankle et al., Linear mode connectivity and the lottery ticket hypothesis, arXiv 1912.05671, §2: the
error barrier along the line between two networks. Networks from one trunk lie in one basin; networks from
different initialisations have a high barrier, and no weighting of them is any good. Only the middle of the
line is looked at: generation 0 has it anyway.
"""

from __future__ import annotations

import itertools
from dataclasses import asdict, dataclass
from typing import Any

from .search.archive import Archive
from .search.generation_zero import midpoint
from .search.space import SearchSpace

TOLERANCE = 0.05  # nats a token above the worse end that count as noise


@dataclass(frozen=True)
class Connection:
    """Losses in nats a token: of two parents and of their mean, None where the mean failed."""

    a: int
    b: int
    loss_a: float
    loss_b: float
    loss_middle: float | None

    @property
    def barrier(self) -> float | None:
        """How far the middle lies above the straight line between the ends."""
        return None if self.loss_middle is None else self.loss_middle - (self.loss_a + self.loss_b) / 2

    @property
    def connected(self) -> bool:
        """Whether the middle is no worse than the worse end."""
        return self.loss_middle is not None and self.loss_middle <= max(self.loss_a, self.loss_b) + TOLERANCE

    def to_json(self) -> dict[str, Any]:
        """As the report shows it."""
        return {**asdict(self), "barrier": self.barrier, "connected": self.connected}


def connections(archive: Archive, space: SearchSpace) -> list[Connection]:
    """One for each two parents whose own evaluation did not fail."""
    pairs = []
    for a, b in itertools.combinations(range(space.parents), 2):
        ends = [archive.get(space.canonical(space.parent(index))) for index in (a, b)]
        middle = archive.get(midpoint(a, b, space))
        losses = [end.measurement.loss for end in ends if end is not None]
        if middle is None or len(losses) != 2 or losses[0] is None or losses[1] is None:
            continue
        pairs.append(Connection(a, b, losses[0], losses[1], middle.measurement.loss))
    return pairs


def warning(connection: Connection, names: list[str]) -> str:
    """What a person should know about two parents that do not connect."""
    a, b = names[connection.a], names[connection.b]
    middle = "failed" if connection.loss_middle is None else f"has loss {connection.loss_middle:.3f}"
    return (
        f"{a} and {b} do not merge: their mean {middle}, they themselves {connection.loss_a:.3f} and "
        f"{connection.loss_b:.3f} nats a token. Parents need one initialisation and a shared early trunk"
    )
