"""The form of a compiled pipeline, as far as we run it: which fields there are, and what each may hold.

A field that is not here is refused by its name: most of them would compile, and then not be done, or done wrongly.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, NotRequired

from pydantic import AfterValidator, ConfigDict, JsonValue, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict

from components.shared.runtime.errors import UnsupportedPipeline
from components.shared.runtime.store.interface import is_safe_name

EXACT = ConfigDict(extra="forbid", strict=True)
OPEN = ConfigDict(extra="ignore", strict=True)


def _text(text: str) -> str:
    """What the command line of a process can hold."""
    text.encode()  # ValueError for half a surrogate pair
    if "\0" in text:
        raise ValueError("it holds the character 0")
    return text


def _name(name: str) -> str:
    """What becomes the name of a folder."""
    if not is_safe_name(name) or "/" in name or len(name.encode()) > 200:
        raise ValueError("it cannot be the name of a folder")
    return name


def _variable(name: str) -> str:
    if not name or "=" in name:
        raise ValueError("no variable of the environment is called so")
    return _text(name)


Text = Annotated[str, AfterValidator(_text)]
Name = Annotated[str, AfterValidator(_name)]
Variable = Annotated[str, AfterValidator(_variable)]
Number = int | float | str


@with_config(EXACT)
class Parameter(TypedDict):
    """Of an interface."""

    parameterType: str
    defaultValue: NotRequired[JsonValue]
    isOptional: NotRequired[bool]
    description: NotRequired[str]


@with_config(OPEN)
class ArtifactType(TypedDict, total=False):
    """Its schema, by title or written out."""

    schemaTitle: str
    instanceSchema: str


@with_config(EXACT)
class Artifact(TypedDict):
    """Of an interface."""

    artifactType: ArtifactType
    isArtifactList: NotRequired[bool]
    isOptional: NotRequired[bool]
    description: NotRequired[str]


@with_config(EXACT)
class Interface(TypedDict, total=False):
    """One side of it."""

    parameters: dict[Name, Parameter]
    artifacts: dict[Name, Artifact]


@with_config(OPEN)
class ParameterSource(TypedDict):
    """An output parameter of a task."""

    outputParameterKey: str
    producerTask: NotRequired[str]
    producerSubtask: NotRequired[str]


@with_config(OPEN)
class ArtifactSource(TypedDict):
    """An output artifact of a task."""

    outputArtifactKey: str
    producerTask: NotRequired[str]
    producerSubtask: NotRequired[str]


@with_config(EXACT)
class RuntimeValue(TypedDict):
    """A value that is written in the pipeline."""

    constant: JsonValue


@with_config(EXACT)
class Argument(TypedDict, total=False):
    """Where a parameter of a task comes from."""

    componentInputParameter: str
    taskOutputParameter: ParameterSource
    runtimeValue: RuntimeValue


@with_config(EXACT)
class ArtifactArgument(TypedDict, total=False):
    """Where an artifact of a task comes from."""

    componentInputArtifact: str
    taskOutputArtifact: ArtifactSource


@with_config(EXACT)
class Arguments(TypedDict, total=False):
    """What a task is given."""

    parameters: dict[str, Argument]
    artifacts: dict[str, ArtifactArgument]


@with_config(EXACT)
class Items(TypedDict, total=False):
    """What a loop goes over."""

    raw: str
    inputParameter: str


@with_config(OPEN)
class Iterator(TypedDict):
    """A loop."""

    itemInput: str
    items: Items


@with_config(OPEN)
class Retries(TypedDict, total=False):
    """Further attempts."""

    maxRetryCount: Number
    backoffDuration: Number
    backoffFactor: Number
    backoffMaxDuration: Number


@with_config(OPEN)
class Named(TypedDict):
    """A reference, or what people call a task."""

    name: str


@with_config(OPEN)
class Parallelism(TypedDict, total=False):
    """Turns of a loop at the same time."""

    parallelismLimit: Number


@with_config(OPEN)
class Caching(TypedDict, total=False):
    """Whether the result of an earlier run will do."""

    enableCache: bool


@with_config(EXACT)
class Task(TypedDict):
    """One use of a component."""

    componentRef: Named
    taskInfo: NotRequired[Named]
    inputs: NotRequired[Arguments]
    dependentTasks: NotRequired[list[str]]
    cachingOptions: NotRequired[Caching]
    parameterIterator: NotRequired[Iterator]
    iteratorPolicy: NotRequired[Parallelism]
    retryPolicy: NotRequired[Retries]


@with_config(EXACT)
class OutputParameter(TypedDict):
    """Of a DAG: that of one of its tasks."""

    valueFromParameter: ParameterSource


@with_config(OPEN)
class OutputArtifact(TypedDict):
    """Of a DAG: that of one of its tasks; of one of several, which we do not run, more."""

    artifactSelectors: list[ArtifactSource]


@with_config(EXACT)
class Outputs(TypedDict, total=False):
    """Of a DAG."""

    parameters: dict[str, OutputParameter]
    artifacts: dict[str, OutputArtifact]


@with_config(EXACT)
class Dag(TypedDict):
    """Tasks, and what of theirs is the DAG's own."""

    tasks: NotRequired[dict[Name, Task]]
    outputs: NotRequired[Outputs]


@with_config(EXACT)
class Component(TypedDict):
    """A DAG or something to execute, and its interface."""

    dag: NotRequired[Dag]
    executorLabel: NotRequired[str]
    inputDefinitions: NotRequired[Interface]
    outputDefinitions: NotRequired[Interface]


@with_config(OPEN)
class Variables(TypedDict):
    """A variable of the environment."""

    name: Variable
    value: NotRequired[Text]


@with_config(EXACT)
class Container(TypedDict):
    """A process."""

    image: NotRequired[str]
    command: NotRequired[list[Text]]
    args: NotRequired[list[Text]]
    env: NotRequired[list[Variables]]
    resources: NotRequired[JsonValue]


@with_config(OPEN)
class Address(TypedDict, total=False):
    """Of an artifact that is there."""

    constant: str
    runtimeParameter: str


@with_config(EXACT)
class Importer(TypedDict):
    """What takes it."""

    artifactUri: Address
    typeSchema: NotRequired[JsonValue]
    reimport: NotRequired[bool]
    metadata: NotRequired[dict[str, JsonValue]]


@with_config(EXACT)
class Executor(TypedDict, total=False):
    """One of them."""

    container: Container
    importer: Importer


@with_config(OPEN)
class Executors(TypedDict, total=False):
    """By their labels."""

    executors: dict[str, Executor]


@with_config(EXACT)
class Specification(TypedDict):
    """The first document of the file."""

    root: Component
    components: NotRequired[dict[str, Component]]
    deploymentSpec: NotRequired[Executors]
    pipelineInfo: NotRequired[Mapping[str, Any]]
    schemaVersion: NotRequired[Any]
    sdkVersion: NotRequired[Any]
    defaultPipelineRoot: NotRequired[Any]


@with_config(OPEN)
class KubernetesExecutors(TypedDict, total=False):
    """What a cluster is told of each: of all that, only how long it may take means something here."""

    executors: dict[str, dict[str, Any]]


@with_config(OPEN)
class Kubernetes(TypedDict, total=False):
    """A platform."""

    deploymentSpec: KubernetesExecutors


@with_config(EXACT)
class Platforms(TypedDict, total=False):
    """By name."""

    kubernetes: Kubernetes


@with_config(OPEN)
class Platform(TypedDict, total=False):
    """The second document."""

    platforms: Platforms


def checked(documents: list[Any]) -> tuple[Specification, list[Platform]]:
    """The documents of a compiled pipeline, where they have its form.

    :raises UnsupportedPipeline: they have not; `where` names the element.
    """
    try:
        return _adapter(Specification).validate_python(documents[0]), [
            _adapter(Platform).validate_python(platform) for platform in documents[1:]
        ]
    except ValidationError as error:
        problems = error.errors(include_url=False)
        first = next((each for each in problems if each["type"] == "extra_forbidden"), problems[0])
        *above, last = map(str, first["loc"] or ("pipeline",))
        if first["type"] == "extra_forbidden":
            what, why = f"the field {last!r} is not supported", ""
        else:
            what, why = "the pipeline is damaged", f"{last}: {first['msg'].removeprefix('Value error, ')}"
        raise UnsupportedPipeline(
            what,
            where=".".join(above) or "pipeline",
            why=why,
            fix="compile it again: forge compile" if why else "",
        ) from error


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)
