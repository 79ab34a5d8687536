"""What a run tells the configured servers: the state of each phase when it has ended, and what is left when the run has.

A server that is away is said once, and the run goes on: the listener has a thread of its own, and nothing waits for it
longer than a run waits for any listener.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.shared.runtime.errors import ForgeError

from ...phases import PHASES
from ...runs.events import Event, Metrics
from ...runs.folder import DONE, TaskStatus
from . import benchmark, exports, memory
from .servers import Servers, connected

if TYPE_CHECKING:
    from ...local.execute import RunResult
    from ...local.plan import Plan

LARGEST = 900_000
"""Characters of a report that is given away; a larger one stays where it is."""

Say = Callable[[str], None]
OVER = ("failed", "interrupted", "cancelled")


@dataclass
class Following:
    """The servers of one run.

    :param say: where it is said, once, that a server is away.
    """

    servers: Servers
    plan: Plan
    say: Say
    away: set[str] = field(default_factory=set)
    statuses: dict[str, TaskStatus] = field(default_factory=dict)
    results: dict[str, dict[str, float | None]] = field(default_factory=dict)
    told: dict[str, str] = field(default_factory=dict)

    def __call__(self, event: Event) -> None:
        """Take note of an event, and tell the memory of a phase that has ended."""
        if isinstance(event.data, TaskStatus):
            self.statuses[event.data.task] = event.data
            self._phase(event.data.phase)
        elif isinstance(event.data, Metrics) and event.data.stage == "result":
            self.results.setdefault(event.task, {}).update(event.data.values)

    def recall(self) -> dict[str, dict[str, Any]]:
        """What the memory knows of the phases, said where the run is one that goes on."""
        if self.servers.memory is None or not self.plan.options.resume:
            return {}
        states: dict[str, dict[str, Any]] = {}

        async def read() -> None:
            assert self.servers.memory is not None
            async with connected("memory", self.servers.memory) as client:
                states.update(await memory.recalled(client, PHASES))

        self._try("memory", read)
        for phase, state in states.items():
            self.say(f"memory: {phase} {state.get('state', '')} in run {state.get('run', '')}")
        return states

    def conclude(self, result: RunResult, report: Path) -> None:
        """Give away what a run has left: settings and report; and have its agent measured."""
        files = {"config.json": json.dumps(asdict(self.plan.status), indent=1, default=str)}
        page = report.read_text(encoding="utf-8")
        if len(page) <= LARGEST:
            files[report.name] = page
        run, servers = self.plan.folder.name, self.servers
        summary = f"{result.ending}, profile {self.plan.status.profile}, seed {self.plan.status.seed}"

        async def to_files() -> None:
            assert servers.filesystem is not None
            async with connected("filesystem", servers.filesystem) as client:
                await exports.to_files(client, servers.filesystem, run, files)

        async def to_github() -> None:
            assert servers.github is not None
            async with connected("github", servers.github) as client:
                made = await exports.to_github(client, servers.github, run, files, summary)
            self.say(f"github: {', '.join(made)} in {servers.github.repository}")

        async def measure() -> None:
            assert servers.eva is not None
            if (model := _model(self.plan, self.statuses)) is None:
                return
            async with connected("eva", servers.eva) as client:
                kept = await benchmark.benchmarked(client, servers.eva, self.plan.folder.path, model)
            self.say(f"eva: {kept}")

        for name, work in (("filesystem", to_files), ("github", to_github), ("eva", measure)):
            if getattr(servers, name) is not None:
                self._try(name, work)

    def _phase(self, phase: str) -> None:
        """Tell the memory of a phase whose tasks are all done, or one of which has failed."""
        if not phase or self.servers.memory is None:
            return
        planned = {task.name for task in self.plan.tasks if task.phase == phase and task.fate != "left out"}
        own = {name: status for name, status in self.statuses.items() if status.phase == phase}
        bad = [status for status in own.values() if status.status in OVER]
        if bad:
            state = bad[0].status
        elif planned <= set(own) and all(status.status in DONE for status in own.values()):
            state = "succeeded"
        else:
            return
        if self.told.get(phase) == state:
            return
        self.told[phase] = state
        content = {
            "phase": phase,
            "state": state,
            "run": self.plan.folder.name,
            "profile": self.plan.status.profile,
            "seed": self.plan.status.seed,
            "time": round(time.time(), 3),
            "seconds": round(sum(status.seconds for status in own.values()), 3),
            "digests": {
                f"{name}/{output}": digest
                for name, status in own.items()
                for output, digest in status.digests.items()
            },
            "metrics": {name: self.results[name] for name in own if name in self.results},
            "error": bad[0].error if bad else "",
        }

        async def keep() -> None:
            assert self.servers.memory is not None
            async with connected("memory", self.servers.memory) as client:
                await memory.persist_state(client, phase, content)

        self._try("memory", keep)

    def _try(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        async def working() -> None:
            await work()

        try:
            asyncio.run(working())
        except ForgeError as error:
            if name not in self.away:
                self.away.add(name)
                self.say(f"{name} was not told: {error}")


def _model(plan: Plan, statuses: dict[str, TaskStatus]) -> dict[str, Any] | None:
    """The last model that the run has made, for whoever measures it; None where it has made none."""
    done = [status for status in statuses.values() if status.status in DONE and "model" in status.digests]
    if not done:
        return None
    last = max(done, key=lambda status: status.finished or 0.0)
    return {
        "model": str((plan.folder.path / last.outputs["model"]).absolute()),
        "digest": last.digests["model"],
        "phase": last.phase,
        "run": plan.folder.name,
    }
