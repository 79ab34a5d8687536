"""KFP's compiled pipeline as typed records: components, DAGs, tasks, and where each input of a task comes from.

Only what the real backend resolves for container components has a record here: parameters, `{{$}}`, `.path`
and `.uri`, nested pipelines, ParallelFor over parameters, Collected, retries, timeouts, importers.
`reader.py` reads a compiled pipeline into them and refuses the rest by name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class FromParent:
    """A value that the surrounding DAG was given under `name`."""

    name: str


@dataclass(frozen=True)
class FromTask:
    """The output `key` of a task beside this one."""

    task: str
    key: str


@dataclass(frozen=True)
class Constant:
    """A value written in the pipeline."""

    value: Any


@dataclass(frozen=True)
class Parameter:
    """A declared parameter: STRING, NUMBER_INTEGER, NUMBER_DOUBLE, BOOLEAN, LIST or STRUCT."""

    type: str
    optional: bool = False
    default: Any = None


@dataclass(frozen=True)
class ArtifactSlot:
    """A declared artifact: its schema title, and whether it is a list of them."""

    type: str
    is_list: bool = False
    optional: bool = False


@dataclass(frozen=True)
class Loop:
    """A loop: the name of the item in the body, and the items, written out or the parameter that holds them."""

    item: str
    items: Constant | FromParent
    parallelism: int = 0


@dataclass(frozen=True)
class Retry:
    """`count` further attempts; the pause before each grows by `factor` up to `longest`, in seconds."""

    count: int = 0
    pause: float = 0.0
    factor: float = 2.0
    longest: float = 3600.0


@dataclass(frozen=True)
class Task:
    """One use of a component in a DAG."""

    name: str
    label: str
    component: str
    parameters: Mapping[str, FromParent | FromTask | Constant]
    artifacts: Mapping[str, FromParent | FromTask]
    after: tuple[str, ...]
    iterator: Loop | None
    retry: Retry
    cached: bool

    @property
    def needs(self) -> tuple[str, ...]:
        """The tasks that must be done before."""
        values = (*self.parameters.values(), *self.artifacts.values())
        return tuple(
            dict.fromkeys([*self.after, *(value.task for value in values if isinstance(value, FromTask))])
        )


@dataclass(frozen=True)
class Dag:
    """Tasks by name, and which of their outputs are the DAG's own."""

    tasks: Mapping[str, Task]
    parameters: Mapping[str, FromTask]
    artifacts: Mapping[str, FromTask]


@dataclass(frozen=True)
class Container:
    """A process: command, arguments with placeholders, environment, and how long it may take.

    :param timeout: seconds of one attempt; 0 for any.
    """

    command: tuple[str, ...]
    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    timeout: float = 0.0


@dataclass(frozen=True)
class Importer:
    """An artifact that lies somewhere already."""

    uri: Constant | FromParent
    metadata: Mapping[str, Any]


@dataclass(frozen=True)
class Component:
    """What a task does, and its interface."""

    name: str
    parameters: Mapping[str, Parameter]
    artifacts: Mapping[str, ArtifactSlot]
    output_parameters: Mapping[str, Parameter]
    output_artifacts: Mapping[str, ArtifactSlot]
    body: Dag | Container | Importer


@dataclass(frozen=True)
class Pipeline:
    """A whole compiled pipeline. `ignored` names the settings in it that only a cluster can honour."""

    name: str
    root: Component
    components: Mapping[str, Component]
    ignored: tuple[str, ...]
    text: str = field(repr=False)

    def containers(self, dag: Dag) -> Iterator[tuple[Task, Component]]:
        """Every task below `dag` that is not itself a DAG, loops' bodies included."""
        for task in dag.tasks.values():
            component = self.components[task.component]
            if isinstance(component.body, Dag):
                yield from self.containers(component.body)
            else:
                yield task, component
