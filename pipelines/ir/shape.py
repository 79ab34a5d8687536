"""The form of a compiled pipeline, as far as we run it: which fields there are, and what each may hold.

A field that is not here is refused by its name: most of them would compile, and then not be done, or done wrongly.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, NotRequired

from pydantic import AfterValidator, ConfigDict, JsonValue, TypeAdapter, ValidationError
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


class Parameter(TypedDict):
    """Of an interface."""

    __pydantic_config__ = EXACT
    parameterType: str
    defaultValue: NotRequired[JsonValue]
    isOptional: NotRequired[bool]
    description: NotRequired[str]


class ArtifactType(TypedDict, total=False):
    """Its schema, by title or written out."""

    __pydantic_config__ = OPEN
    schemaTitle: str
    instanceSchema: str


class Artifact(TypedDict):
    """Of an interface."""

    __pydantic_config__ = EXACT
    artifactType: ArtifactType
    isArtifactList: NotRequired[bool]
    isOptional: NotRequired[bool]
    description: NotRequired[str]


class Interface(TypedDict, total=False):
    """One side of it."""

    __pydantic_config__ = EXACT
    parameters: dict[Name, Parameter]
    artifacts: dict[Name, Artifact]


class ParameterSource(TypedDict):
    """An output parameter of a task."""

    __pydantic_config__ = OPEN
    outputParameterKey: str
    producerTask: NotRequired[str]
    producerSubtask: NotRequired[str]


class ArtifactSource(TypedDict):
    """An output artifact of a task."""

    __pydantic_config__ = OPEN
    outputArtifactKey: str
    producerTask: NotRequired[str]
    producerSubtask: NotRequired[str]


class RuntimeValue(TypedDict):
    """A value that is written in the pipeline."""

    __pydantic_config__ = EXACT
    constant: JsonValue


class Argument(TypedDict, total=False):
    """Where a parameter of a task comes from."""

    __pydantic_config__ = EXACT
    componentInputParameter: str
    taskOutputParameter: ParameterSource
    runtimeValue: RuntimeValue


class ArtifactArgument(TypedDict, total=False):
    """Where an artifact of a task comes from."""

    __pydantic_config__ = EXACT
    componentInputArtifact: str
    taskOutputArtifact: ArtifactSource


class Arguments(TypedDict, total=False):
    """What a task is given."""

    __pydantic_config__ = EXACT
    parameters: dict[str, Argument]
    artifacts: dict[str, ArtifactArgument]


class Items(TypedDict, total=False):
    """What a loop goes over."""

    __pydantic_config__ = EXACT
    raw: str
    inputParameter: str


class Iterator(TypedDict):
    """A loop."""

    __pydantic_config__ = OPEN
    itemInput: str
    items: Items


class Retries(TypedDict, total=False):
    """Further attempts."""

    __pydantic_config__ = OPEN
    maxRetryCount: Number
    backoffDuration: Number
    backoffFactor: Number
    backoffMaxDuration: Number


class Named(TypedDict):
    """A reference, or what people call a task."""

    __pydantic_config__ = OPEN
    name: str


class Parallelism(TypedDict, total=False):
    """Turns of a loop at the same time."""

    __pydantic_config__ = OPEN
    parallelismLimit: Number


class Caching(TypedDict, total=False):
    """Whether the result of an earlier run will do."""

    __pydantic_config__ = OPEN
    enableCache: bool


class Task(TypedDict):
    """One use of a component."""

    __pydantic_config__ = EXACT
    componentRef: Named
    taskInfo: NotRequired[Named]
    inputs: NotRequired[Arguments]
    dependentTasks: NotRequired[list[str]]
    cachingOptions: NotRequired[Caching]
    parameterIterator: NotRequired[Iterator]
    iteratorPolicy: NotRequired[Parallelism]
    retryPolicy: NotRequired[Retries]


class OutputParameter(TypedDict):
    """Of a DAG: that of one of its tasks."""

    __pydantic_config__ = EXACT
    valueFromParameter: ParameterSource


class OutputArtifact(TypedDict):
    """Of a DAG: that of one of its tasks; of one of several, which we do not run, more."""

    __pydantic_config__ = OPEN
    artifactSelectors: list[ArtifactSource]


class Outputs(TypedDict, total=False):
    """Of a DAG."""

    __pydantic_config__ = EXACT
    parameters: dict[str, OutputParameter]
    artifacts: dict[str, OutputArtifact]


class Dag(TypedDict):
    """Tasks, and what of theirs is the DAG's own."""

    __pydantic_config__ = EXACT
    tasks: NotRequired[dict[Name, Task]]
    outputs: NotRequired[Outputs]


class Component(TypedDict):
    """A DAG or something to execute, and its interface."""

    __pydantic_config__ = EXACT
    dag: NotRequired[Dag]
    executorLabel: NotRequired[str]
    inputDefinitions: NotRequired[Interface]
    outputDefinitions: NotRequired[Interface]


class Variables(TypedDict):
    """A variable of the environment."""

    __pydantic_config__ = OPEN
    name: Variable
    value: NotRequired[Text]


class Container(TypedDict):
    """A process."""

    __pydantic_config__ = EXACT
    image: NotRequired[str]
    command: NotRequired[list[Text]]
    args: NotRequired[list[Text]]
    env: NotRequired[list[Variables]]
    resources: NotRequired[JsonValue]


class Address(TypedDict, total=False):
    """Of an artifact that is there."""

    __pydantic_config__ = OPEN
    constant: str
    runtimeParameter: str


class Importer(TypedDict):
    """What takes it."""

    __pydantic_config__ = EXACT
    artifactUri: Address
    typeSchema: NotRequired[JsonValue]
    reimport: NotRequired[bool]
    metadata: NotRequired[dict[str, JsonValue]]


class Executor(TypedDict, total=False):
    """One of them."""

    __pydantic_config__ = EXACT
    container: Container
    importer: Importer


class Executors(TypedDict, total=False):
    """By their labels."""

    __pydantic_config__ = OPEN
    executors: dict[str, Executor]


class Specification(TypedDict):
    """The first document of the file."""

    __pydantic_config__ = EXACT
    root: Component
    components: NotRequired[dict[str, Component]]
    deploymentSpec: NotRequired[Executors]
    pipelineInfo: NotRequired[Mapping[str, Any]]
    schemaVersion: NotRequired[Any]
    sdkVersion: NotRequired[Any]
    defaultPipelineRoot: NotRequired[Any]


class KubernetesExecutors(TypedDict, total=False):
    """What a cluster is told of each: of all that, only how long it may take means something here."""

    __pydantic_config__ = OPEN
    executors: dict[str, dict[str, Any]]


class Kubernetes(TypedDict, total=False):
    """A platform."""

    __pydantic_config__ = OPEN
    deploymentSpec: KubernetesExecutors


class Platforms(TypedDict, total=False):
    """By name."""

    __pydantic_config__ = EXACT
    kubernetes: Kubernetes


class Platform(TypedDict, total=False):
    """The second document."""

    __pydantic_config__ = OPEN
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
