"""Who carries a run: the one thing in which a run of this machine and one of Kubeflow differ for the controller.

The controller holds a run's lease, and asks its carrier to start it, to look at it, to stop it, and whether anything of it
still lives. A carrier keeps nothing that it cannot find again from the run's row: the next controller has no other source.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from .strip import Row


@dataclass(frozen=True)
class Held:
    """A run under our lease.

    :param row: as it was when the lease was taken, or at the last look.
    :param epoch: every write names it.
    :param granted: what the pools have given it: {gpus: [...], slots, memory_bytes}; empty where it needs none.
    """

    row: Row
    epoch: int
    granted: Mapping[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """The run's name."""
        return str(self.row["id"])


@dataclass(frozen=True)
class Look:
    """What a carrier sees of a run.

    :param alive: something of it lives: a process, a pod.
    :param ended: how it has ended, as far as it says so itself: succeeded, failed, cancelled; "" while it goes on, or
        where it was killed.
    :param living: what lives, in words for a person: "process 4711 (python -m components.bitnet)", "pod bitnet-xyz".
    :param lost: it cannot go on from here: the reason, and what to do.
    :param error: why it could not begin or has failed, {what, where, why, fix}.
    """

    alive: bool
    ended: str = ""
    living: Sequence[str] = ()
    lost: str = ""
    error: Mapping[str, Any] | None = None


class Carrier(Protocol):
    """Carries runs of one target. Methods are called by the run's holder only, one at a time for a run."""

    async def start(self, held: Held) -> None:
        """Begin the run, or go on with it. What is to be found again (`process`, `kfp_id`) is in the row when it returns.

        :raises ForgeError: it cannot begin: the run has failed.
        :raises LeaseLost: somebody else holds it by now.
        """
        ...

    async def look(self, held: Held) -> Look:
        """Write down what has happened since the last look (`record` with the lease's epoch), and say how it is.

        :raises LeaseLost: somebody else holds it by now.
        :raises StoreError: the database or the store does not answer: it goes on, and is looked at later.
        """
        ...

    async def cancel(self, held: Held, *, kill: bool) -> None:
        """Ask it to stop; with `kill` end it without a last checkpoint. It returns before it has stopped."""
        ...

    async def abandon(self, held: Held, successor: Mapping[str, Any]) -> None:
        """Somebody else holds the run: end what is ours of it, unless the new holder has it in its hands.

        :param successor: the run's row now.
        """
        ...
