"""Runs a compiled pipeline on this machine, one process per task, as the backend would run one pod per task.

Nested pipelines, loops over parameters, Collected, defaults, retries, timeouts, importers and caching mean here what they
mean there. A task starts when those that it needs are done and a slot is free. When one fails, what depends on it is
cancelled and the rest goes on to its end. Images, resources and Kubernetes settings have no meaning here.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from graphlib import TopologicalSorter
from typing import Any, Literal, Protocol

from components.shared.runtime.errors import ConfigError, ForgeError

from ..ir.spec import Component, Constant, Dag, FromParent, FromTask, Pipeline, Task
from ..ir.values import Stored, Values, complete, typed, whole
from .options import Position, UpstreamUnavailable

Ending = Literal["succeeded", "failed", "interrupted"]
LABEL = 100
"""Characters of a label that become the name of a task's folder."""

Beside = Mapping[str, asyncio.Task[Values]]


class Tasks(Protocol):
    """What becomes of the tasks: `TaskRunner` runs them, `Forecast` says what would be run."""

    async def run(
        self, task: Task, component: Component, position: Position, inputs: Values, depends_on: Sequence[str]
    ) -> Values:
        """The outputs of a task that is a process or an import.

        :raises UpstreamUnavailable: there are none.
        """
        ...

    def announce(self, component: Component, position: Position, depends_on: Sequence[str]) -> None:
        """A task is known that is to come."""
        ...

    def cancel(self, component: Component, position: Position, lacking: UpstreamUnavailable) -> None:
        """A task will not come, because another has no outputs."""
        ...

    def fail(self, position: Position, error: ForgeError) -> None:
        """A loop or a nested pipeline has not even begun."""
        ...


class Scheduler:
    """Takes the tasks of one pipeline in their order, each as soon as it can.

    :param parameters: of the pipeline, complete and typed.
    """

    def __init__(self, pipeline: Pipeline, parameters: Mapping[str, Any], tasks: Tasks) -> None:
        self.pipeline = pipeline
        self.parameters = parameters
        self.tasks = tasks

    async def run(self) -> UpstreamUnavailable | None:
        """Take every task to its end; the gravest reason for which one has no outputs, None where all have."""
        self._announce(self.pipeline.root, Position())
        try:
            await self._dag(self.pipeline.root, Position(), Values(self.parameters))
        except UpstreamUnavailable as lacking:
            return lacking
        return None

    async def _dag(self, component: Component, position: Position, outer: Values) -> Values:
        """All tasks of a DAG, each as soon as it can; then the DAG's outputs.

        :param outer: what the DAG itself was given.
        """
        dag = component.body
        assert isinstance(dag, Dag)
        positions = _positions(dag, position)
        running: dict[str, asyncio.Task[Values]] = {}
        for name in _in_order(dag):
            running[name] = asyncio.create_task(self._task(dag.tasks[name], positions, outer, running))
        done = dict(zip(running, await _all(running.values()), strict=True))
        return Values(
            {name: done[source.task].parameters[source.key] for name, source in dag.parameters.items()},
            {name: done[source.task].artifacts[source.key] for name, source in dag.artifacts.items()},
        )

    async def _task(
        self, task: Task, positions: Mapping[str, Position], outer: Values, beside: Beside
    ) -> Values:
        """One task of a DAG, once those that it needs are done."""
        component, position = self.pipeline.components[task.component], positions[task.name]
        try:
            done = {name: await beside[name] for name in task.needs}
        except UpstreamUnavailable as lacking:
            if lacking.why != "left out":
                self._cancel(task, position, lacking)
            raise
        inputs = Values(
            {name: _parameter(source, outer, done) for name, source in task.parameters.items()},
            {name: _artifacts(source, outer, done) for name, source in task.artifacts.items()},
        )
        if not isinstance(component.body, Dag):
            producers = [
                stored.producer for group in inputs.artifacts.values() for stored in group if stored.producer
            ]
            depends_on = sorted({*(positions[name].id for name in task.needs), *producers})
            return await self.tasks.run(task, component, position, inputs, depends_on)
        try:
            if task.iterator is not None:
                return await self._loop(task, component, position, inputs)
            parameters = complete(inputs.parameters, component.parameters, position.id)
            return await self._dag(component, position, Values(parameters, inputs.artifacts))
        except ForgeError as error:
            self.tasks.fail(position, error)
            raise UpstreamUnavailable(position.id, "failed") from error

    async def _loop(self, task: Task, component: Component, position: Position, inputs: Values) -> Values:
        """The body once per item. Each output becomes the list of what the turns gave, in the order of the items."""
        loop, dag = task.iterator, component.body
        assert loop is not None and isinstance(dag, Dag)
        source = loop.items
        items = whole(source.value if isinstance(source, Constant) else inputs.parameters[source.name])
        if not isinstance(items, list):
            raise ConfigError(f"a loop over {items!r}", where=position.id, fix="give it a list")
        kind = component.parameters[loop.item].type
        values = [typed(item, kind, f"{position.id}, item {number}") for number, item in enumerate(items)]
        at_once = asyncio.Semaphore(loop.parallelism or max(1, len(values)))

        async def turn(number: int, item: Any) -> Values:
            async with at_once:
                outer = Values({**inputs.parameters, loop.item: item}, inputs.artifacts)
                return await self._dag(component, position.turn(number), outer)

        for number in range(len(values)):
            self._announce(component, position.turn(number))
        turns = await _all([asyncio.create_task(turn(number, item)) for number, item in enumerate(values)])
        return Values(
            {name: [outputs.parameters[name] for outputs in turns] for name in dag.parameters},
            {
                name: tuple(stored for outputs in turns for stored in outputs.artifacts[name])
                for name in dag.artifacts
            },
        )

    def _announce(self, component: Component, position: Position, needs: Sequence[str] = ()) -> None:
        """Tell of all tasks below a DAG that are to come, but for those in loops whose items are not known yet.

        :param needs: what the DAG itself waits for.
        """
        if not isinstance(component.body, Dag):
            self.tasks.announce(component, position, needs)
            return
        positions = _positions(component.body, position)
        for name in _in_order(component.body):
            task = component.body.tasks[name]
            if task.iterator is None:
                inner = [*needs, *(positions[other].id for other in task.needs)]
                self._announce(self.pipeline.components[task.component], positions[name], inner)

    def _cancel(self, task: Task, position: Position, lacking: UpstreamUnavailable) -> None:
        """Mark a task, or all that can be known of the tasks of a nested pipeline, as cancelled."""
        component = self.pipeline.components[task.component]
        if not isinstance(component.body, Dag):
            self.tasks.cancel(component, position, lacking)
        elif task.iterator is None:
            positions = _positions(component.body, position)
            for name, inner in component.body.tasks.items():
                self._cancel(inner, positions[name], lacking)


async def _all(tasks: Iterable[asyncio.Task[Values]]) -> list[Values]:
    """The results of all tasks, when every one has ended. The gravest of their errors is raised."""
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    for error in ended:
        if isinstance(error, BaseException) and not isinstance(error, UpstreamUnavailable):
            raise error
    lacking = [error for error in ended if isinstance(error, UpstreamUnavailable)]
    if lacking:
        order = ("stopped", "failed", "left out")
        raise min(lacking, key=lambda error: order.index(error.why))
    return [outputs for outputs in ended if isinstance(outputs, Values)]


def _parameter(source: FromParent | FromTask | Constant, outer: Values, done: Mapping[str, Values]) -> Any:
    if isinstance(source, Constant):
        return whole(source.value)
    if isinstance(source, FromParent):
        return outer.parameters.get(source.name)
    return done[source.task].parameters[source.key]


def _artifacts(
    source: FromParent | FromTask, outer: Values, done: Mapping[str, Values]
) -> tuple[Stored, ...]:
    if isinstance(source, FromParent):
        return outer.artifacts.get(source.name, ())
    return done[source.task].artifacts[source.key]


def _in_order(dag: Dag) -> Iterable[str]:
    """Each task of a DAG behind those that it needs."""
    return TopologicalSorter({name: task.needs for name, task in dag.tasks.items()}).static_order()


def _positions(dag: Dag, position: Position) -> dict[str, Position]:
    """The position of each task: under its label where only one task has it, else under its name."""
    labels = {
        name: re.sub(r"[^A-Za-z0-9._-]+", "-", task.label)[:LABEL].strip("-.")
        for name, task in dag.tasks.items()
    }
    counts = Counter(labels.values())
    titles = {name: label if label and counts[label] == 1 else name for name, label in labels.items()}
    if len({*titles.values()}) < len(titles):  # the label of one is the name of another
        titles = {name: name for name in titles}
    return {name: position.below(title) for name, title in titles.items()}
