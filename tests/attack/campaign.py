"""A campaign: attempts of all classes in turn, side by side, until they are through or the time is."""

from __future__ import annotations

import random
import shutil
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from tests.attack.attempt import Bench, Ended, Running, end_family

TICK = 0.005
PREPARATION = 240.0
"""Seconds that what a class attacks may take to be made."""


class AttackClass(Protocol):
    """A module of this folder that attacks in one way.

    `COUNT`: its attempts in a whole campaign. `LIMIT`: seconds after which one hangs, on a busy machine. Where it has a
    function `serve`, that starts a process for all attempts and returns its id.
    """

    COUNT: int
    LIMIT: float

    def prepare(self, bench: Bench) -> str:
        """Make what is attacked, in bench.inside: the attempts find it in bench.shared."""
        ...

    def attempt(self, bench: Bench) -> str:
        """Attack, and say how."""
        ...


@dataclass
class Tally:
    """What became of the attempts so far.

    :param failed: (class, number) → how it ended.
    """

    tried: Counter[str] = field(default_factory=Counter)
    survived: Counter[str] = field(default_factory=Counter)
    seconds: dict[str, float] = field(default_factory=dict)
    cpu_seconds: dict[str, float] = field(default_factory=dict)
    failed: dict[tuple[str, int], Ended] = field(default_factory=dict)

    def take(self, name: str, number: int, ended: Ended) -> None:
        self.tried[name] += 1
        self.seconds[name] = self.seconds.get(name, 0.0) + ended.seconds
        self.cpu_seconds[name] = self.cpu_seconds.get(name, 0.0) + ended.cpu_seconds
        if ended.verdict == "survived":
            self.survived[name] += 1
        else:
            self.failed[name, number] = ended

    def typical(self, name: str) -> float:
        """Seconds that an attempt of this class has taken so far."""
        return self.seconds.get(name, 0.0) / max(self.tried[name], 1)

    def of(self, name: str, verdict: str) -> int:
        return sum(end.verdict == verdict for (kind, _), end in self.failed.items() if kind == name)


@dataclass(frozen=True)
class Campaign:
    """What is attacked, with which seed, and where the attempts work."""

    classes: Mapping[str, AttackClass]
    seed: int
    folder: Path
    jobs: int = 2
    keep: bool = False
    say: Callable[[str], None] = print
    servers: list[int] = field(default_factory=list)
    shared: dict[str, Path] = field(default_factory=dict)
    running: dict[tuple[str, int], Running] = field(default_factory=dict)

    def prepare(self, names: Sequence[str]) -> list[str]:
        """Let classes make what they attack, in a child as an attempt has one, once where they have that in common.

        :returns: the names of those where that went well.
        """
        ready: list[str] = []
        for name in names:
            if serve := getattr(self.classes[name], "serve", None):
                self.servers.append(serve())
        groups: dict[Callable[[Bench], str], list[str]] = {}
        for name in names:
            groups.setdefault(self.classes[name].prepare, []).append(name)
        waiting = deque(groups.items())
        running: dict[tuple[str, ...], Running] = {}
        while waiting or running:
            while waiting and len(running) < self.jobs:
                work, group = waiting.popleft()
                place = self.folder / group[0] / "shared"
                self.shared.update(dict.fromkeys(group, place / "inside"))
                running[tuple(group)] = Running(work, random.Random(self.seed), place, Path(), PREPARATION)
            for members, child in list(running.items()):
                if ended := child.poll():
                    del running[members]
                    if ended.verdict != "survived" or ended.note.startswith("refused"):
                        self.say(f"what {', '.join(members)} attacks could not be made: {ended.note}")
                    else:
                        ready.extend(members)
            time.sleep(TICK)
        return ready

    def run(self, attempts: Sequence[tuple[str, int]], until: float) -> Tally:
        """Try them in this order; none is begun that would go on behind `until` (of the monotonic clock)."""
        tally, waiting = Tally(), deque(attempts)
        running = self.running
        began = spoken = time.monotonic()
        while waiting or running:
            while waiting and len(running) < self.jobs:
                name, number = waiting.popleft()
                if time.monotonic() + tally.typical(name) < until:
                    running[name, number] = self._begin(name, number)
            if not running:
                break
            for (name, number), child in list(running.items()):
                if ended := child.poll():
                    del running[name, number]
                    tally.take(name, number, ended)
                    if ended.verdict != "survived":
                        self.say(f"{ended.verdict}: {ended.note}\n    again: {self.command(name, number)}")
                    elif not self.keep:
                        shutil.rmtree(child.folder, ignore_errors=True)
            if time.monotonic() - spoken > 15:
                spoken = time.monotonic()
                self.say(progress(tally, len(attempts), spoken - began, until - spoken))
            time.sleep(TICK)
        return tally

    def close(self) -> None:
        """End what was started for the classes, and the attempts that a signal has cut short."""
        for child in self.running.values():
            end_family(child.pid)
        self.running.clear()
        while self.servers:
            end_family(self.servers.pop())

    def _begin(self, name: str, number: int) -> Running:
        kind = self.classes[name]
        folder = self.folder / name / str(number)
        rng = random.Random(f"{self.seed}/{name}/{number}")
        return Running(kind.attempt, rng, folder, self.shared.get(name, Path()), kind.LIMIT)

    def command(self, name: str, number: int) -> str:
        """How exactly this attempt is repeated."""
        return f"python -m tests.attack --seed {self.seed} --only {name}:{number} --keep"


def in_turn(counts: Mapping[str, int]) -> Iterator[tuple[str, int]]:
    """(class, number) such that at every moment each class has had its share."""
    places = [
        ((number + 0.5) / count, name, number) for name, count in counts.items() for number in range(count)
    ]
    for _, name, number in sorted(places):
        yield name, number


def progress(tally: Tally, planned: int, passed: float, left: float) -> str:
    """One line: how far it is, and how far it will come."""
    tried = tally.tried.total()
    rest = min((planned - tried) * passed / max(tried, 1), max(left, 0.0))
    lost = len(tally.failed)
    return f"{tried} of {planned} attempts in {passed:.0f} s, {lost} not survived; about {rest:.0f} s to go"


def table(tally: Tally, names: Sequence[str]) -> str:
    """Tried and survived of each class."""
    columns = ("class", "tried", "survived", "loss", "hang", "traceback", "s each", "CPU s")
    rows = [
        (
            name,
            tally.tried[name],
            tally.survived[name],
            *(tally.of(name, verdict) for verdict in ("loss", "hang", "traceback")),
            f"{tally.typical(name):.2f}",
            f"{tally.cpu_seconds.get(name, 0.0) / max(tally.tried[name], 1):.2f}",
        )
        for name in names
    ]
    verdicts = [sum(row[column] for row in rows) for column in range(1, 6)]  # type: ignore[misc]
    return "\n".join(
        "  ".join(f"{cell:<10}" if place == 0 else f"{cell:>9}" for place, cell in enumerate(row))
        for row in (columns, *rows, ("all", *verdicts, "", ""))
    )
