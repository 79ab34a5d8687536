"""Runs a compiled pipeline on this machine, one process per task, as the backend would run one pod per task.

Nested pipelines, loops over parameters, Collected, defaults, retries, timeouts, importers and caching mean here what they
mean there. A task starts when those that it needs are done and a slot is free. When one fails, what depends on it is
cancelled and the rest goes on to its end. Images, resources and Kubernetes settings have no meaning here.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from graphlib import TopologicalSorter
from typing import Any, Literal

from components.shared.runtime.errors import ConfigError, ForgeError

from ..ir.spec import Component, Constant, Dag, FromParent, FromTask, Pipeline, Task
from ..ir.values import Stored, Values, complete, typed, whole
from ..runs.folder import RunFolder
from .cache import Depot
from .task import Launch, Leaves, Options, Place, Unavailable

Ending = Literal["succeeded", "failed", "interrupted"]
Beside = Mapping[str, asyncio.Task[Values]]


class Runner:
    """One run of one pipeline.

    :param parameters: of the pipeline, complete and typed.
    :param say: one line for the person who watches.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        folder: RunFolder,
        depot: Depot,
        launcher: Launch,
        parameters: Mapping[str, Any],
        options: Options,
        say: Callable[[str], None] = print,
    ) -> None:
        self.pipeline = pipeline
        self.parameters = parameters
        self.say = say
        self.leaves = Leaves(folder, depot, launcher, options, say)

    async def run(self) -> Ending:
        """Run to the end, and say how it ended. Details are in the status of each task."""
        self._announce(self.pipeline.root, Place())
        try:
            await self._dag(self.pipeline.root, Place(), Values(self.parameters))
        except Unavailable as lacking:
            if self.leaves.stopping.is_set():
                return "interrupted"
            return "succeeded" if lacking.why == "left out" else "failed"
        return "succeeded"

    def stop(self) -> None:
        """Stop all tasks; those that can write a checkpoint get the time to. A second call kills them."""
        self.leaves.stop()

    async def _dag(self, component: Component, place: Place, given: Values) -> Values:
        """All tasks of a DAG, each as soon as it can; then the DAG's outputs."""
        dag = component.body
        assert isinstance(dag, Dag)
        places = _places(dag, place)
        running: dict[str, asyncio.Task[Values]] = {}
        for name in TopologicalSorter({name: task.needs for name, task in dag.tasks.items()}).static_order():
            running[name] = asyncio.create_task(self._task(dag.tasks[name], places, given, running))
        done = dict(zip(running, await _all(running.values()), strict=True))
        return Values(
            {name: done[source.task].parameters[source.key] for name, source in dag.parameters.items()},
            {name: done[source.task].artifacts[source.key] for name, source in dag.artifacts.items()},
        )

    async def _task(self, task: Task, places: Mapping[str, Place], given: Values, beside: Beside) -> Values:
        """One task of a DAG, once those that it needs are done."""
        component, place = self.pipeline.components[task.component], places[task.name]
        try:
            done = {name: await beside[name] for name in task.needs}
        except Unavailable as lacking:
            if lacking.why != "left out":
                self._cancel(task, place, lacking)
            raise
        inputs = Values(
            {name: _parameter(source, given, done) for name, source in task.parameters.items()},
            {name: _artifacts(source, given, done) for name, source in task.artifacts.items()},
        )
        if not isinstance(component.body, Dag):
            producers = [one.producer for group in inputs.artifacts.values() for one in group if one.producer]
            depends_on = sorted({*(places[name].id for name in task.needs), *producers})
            return await self.leaves.run(task, component, place, inputs, depends_on)
        try:
            if task.iterator is not None:
                return await self._loop(task, component, place, inputs)
            parameters = complete(inputs.parameters, component.parameters, place.id)
            return await self._dag(component, place, Values(parameters, inputs.artifacts))
        except ForgeError as error:
            self.say(f"{place.id}: failed: {error}")
            raise Unavailable(place.id, "failed") from error

    async def _loop(self, task: Task, component: Component, place: Place, inputs: Values) -> Values:
        """The body once per item. Each output becomes the list of what the turns gave, in the order of the items."""
        loop, dag = task.iterator, component.body
        assert loop is not None and isinstance(dag, Dag)
        source = loop.items
        items = whole(source.value if isinstance(source, Constant) else inputs.parameters[source.name])
        if not isinstance(items, list):
            raise ConfigError(f"a loop over {items!r}", where=place.id, fix="give it a list")
        kind = component.parameters[loop.item].type
        values = [typed(item, kind, f"{place.id}, item {number}") for number, item in enumerate(items)]
        at_once = asyncio.Semaphore(loop.parallelism or max(1, len(values)))

        async def turn(number: int, item: Any) -> Values:
            async with at_once:
                given = Values({**inputs.parameters, loop.item: item}, inputs.artifacts)
                return await self._dag(component, place.turn(number), given)

        for number in range(len(values)):
            self._announce(component, place.turn(number))
        turns = await _all([asyncio.create_task(turn(number, item)) for number, item in enumerate(values)])
        return Values(
            {name: [one.parameters[name] for one in turns] for name in dag.parameters},
            {name: tuple(made for one in turns for made in one.artifacts[name]) for name in dag.artifacts},
        )

    def _announce(self, component: Component, place: Place) -> None:
        """Write down all tasks below a DAG that are to come, but for those in loops whose items are not known yet."""
        if not isinstance(component.body, Dag):
            self.leaves.announce(component, place)
            return
        places = _places(component.body, place)
        for name, task in component.body.tasks.items():
            if task.iterator is None:
                self._announce(self.pipeline.components[task.component], places[name])

    def _cancel(self, task: Task, place: Place, lacking: Unavailable) -> None:
        """Mark a task, or all that can be known of the tasks of a nested pipeline, as cancelled."""
        component = self.pipeline.components[task.component]
        if not isinstance(component.body, Dag):
            self.leaves.cancel(component, place, lacking)
        elif task.iterator is None:
            places = _places(component.body, place)
            for name, inner in component.body.tasks.items():
                self._cancel(inner, places[name], lacking)


async def _all(tasks: Iterable[asyncio.Task[Values]]) -> list[Values]:
    """The results of all tasks, when every one has ended. The gravest of their errors is raised."""
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    for error in ended:
        if isinstance(error, BaseException) and not isinstance(error, Unavailable):
            raise error
    lacking = [error for error in ended if isinstance(error, Unavailable)]
    if lacking:
        order = ("stopped", "failed", "left out")
        raise min(lacking, key=lambda error: order.index(error.why))
    return [one for one in ended if isinstance(one, Values)]


def _parameter(source: FromParent | FromTask | Constant, given: Values, done: Mapping[str, Values]) -> Any:
    if isinstance(source, Constant):
        return whole(source.value)
    if isinstance(source, FromParent):
        return given.parameters.get(source.name)
    return done[source.task].parameters[source.key]


def _artifacts(
    source: FromParent | FromTask, given: Values, done: Mapping[str, Values]
) -> tuple[Stored, ...]:
    if isinstance(source, FromParent):
        return given.artifacts.get(source.name, ())
    return done[source.task].artifacts[source.key]


def _places(dag: Dag, place: Place) -> dict[str, Place]:
    """The place of each task: under its label where only one task has it, else under its name."""
    labels = {
        name: re.sub(r"[^A-Za-z0-9._-]+", "-", task.label).strip("-.") for name, task in dag.tasks.items()
    }
    counts = Counter(labels.values())
    return {
        name: place.below(label if label and counts[label] == 1 else name) for name, label in labels.items()
    }
