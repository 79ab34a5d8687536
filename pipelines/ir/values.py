"""The values that flow between tasks: typed as the backend types them, and as a container gets to see them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from components.shared.runtime.errors import ConfigError, PhaseFailed

from ..runs.folder import TaskFolder
from .checks import PLACEHOLDER
from .spec import Component, Container, Parameter


@dataclass(frozen=True)
class Stored:
    """An artifact on this machine: where, what it is, which task made it, and the digest of its content."""

    path: Path
    type: str
    digest: str
    producer: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Values:
    """The inputs or the outputs of a task: parameters, and lists of artifacts (of one element where it is no list)."""

    parameters: Mapping[str, Any] = field(default_factory=dict)
    artifacts: Mapping[str, tuple[Stored, ...]] = field(default_factory=dict)

    @property
    def digests(self) -> dict[str, list[str]]:
        """Of the artifacts."""
        return {name: [stored.digest for stored in group] for name, group in self.artifacts.items()}


def whole(value: Any) -> Any:
    """Doubles without a fraction as integers, at any depth: the IR and KFP's JSON know only doubles."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [whole(element) for element in value]
    if isinstance(value, dict):
        return {name: whole(element) for name, element in value.items()}
    return value


def typed(value: Any, kind: str, where: str) -> Any:
    """`value` as the declared type, by the backend's rules: a STRING takes anything as JSON, all else must match.

    :raises ConfigError: it does not.
    """
    value = whole(value)
    if kind == "STRING":
        return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
    number = isinstance(value, int | float) and not isinstance(value, bool)
    fits = {
        "NUMBER_INTEGER": isinstance(value, int) and number,
        "NUMBER_DOUBLE": number,
        "BOOLEAN": isinstance(value, bool),
        "LIST": isinstance(value, list),
        "STRUCT": isinstance(value, dict),
    }
    if not fits[kind]:
        raise ConfigError(
            f"the parameter is {value!r:.200}",
            where=where,
            why=f"its type is {kind}",
            fix="give one of that type",
        )
    return value


def from_text(text: str, kind: str, where: str) -> Any:
    """A parameter that was written as text: on a command line, or by a task into its file.

    :raises ConfigError: it is not of its type.
    """
    if kind == "STRING":
        return text
    try:
        return typed(json.loads(text), kind, where)
    except (ValueError, RecursionError):
        why = f"no JSON of type {kind}"
        raise ConfigError(
            f"the parameter is {text!r:.200}", where=where, why=why, fix="give one of that type"
        ) from None


def complete(arguments: Mapping[str, Any], declared: Mapping[str, Parameter], where: str) -> dict[str, Any]:
    """The arguments by their declared types, and the defaults of the parameters without one.

    :raises ConfigError: one is missing, or of another type.
    """
    values = {}
    for name, parameter in declared.items():
        value = arguments.get(name, parameter.default)
        if value is not None:
            values[name] = typed(value, parameter.type, f"{where}, {name}")
        elif not parameter.optional:
            raise ConfigError("a parameter is missing", where=f"{where}, {name}", fix="give it a value")
    return values


def executor_input(component: Component, inputs: Values, folder: TaskFolder) -> dict[str, Any]:
    """What `{{$}}` stands for: inputs with their values and places, and the places where outputs are expected."""

    def artifact(name: str, kind: str, path: Path, metadata: Mapping[str, Any]) -> dict[str, Any]:
        return {"name": name, "type": {"schemaTitle": kind}, "uri": str(path), "metadata": dict(metadata)}

    return {
        "inputs": {
            "parameterValues": dict(inputs.parameters),
            "artifacts": {
                name: {
                    "artifacts": [
                        artifact(name, stored.type, stored.path, stored.metadata) for stored in group
                    ]
                }
                for name, group in inputs.artifacts.items()
            },
        },
        "outputs": {
            "parameters": {
                name: {"outputFile": str(folder.parameter(name))} for name in component.output_parameters
            },
            "artifacts": {
                name: {"artifacts": [artifact(name, slot.type, folder.output(name), {})]}
                for name, slot in component.output_artifacts.items()
            },
            "outputFile": str(folder.output_metadata),
        },
    }


def command_line(container: Container, request: Mapping[str, Any]) -> list[str]:
    """Command and arguments with every placeholder replaced."""
    line: list[str] = []
    for text in (*container.command, *container.arguments):
        for part in _branch(text, request["inputs"]["parameterValues"]):
            line.append(PLACEHOLDER.sub(lambda match: _replacement(match, request), part))
    return line


def _branch(text: str, parameters: Mapping[str, Any]) -> Sequence[str]:
    """The chosen branch of an IfPresent, which may be several arguments or none; any other text as it is."""
    if not text.startswith('{"IfPresent"'):
        return [text]
    condition = json.loads(text)["IfPresent"]
    chosen = condition["Then"] if condition["InputName"] in parameters else condition.get("Else", [])
    return [chosen] if isinstance(chosen, str) else chosen


def _replacement(match: re.Match[str], request: Mapping[str, Any]) -> str:
    if match["parameter"]:
        value = request["inputs"]["parameterValues"].get(match["parameter"], "")
        return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
    if match["artifact"]:
        group = request[match["side"]]["artifacts"].get(match["artifact"])
        return str(group["artifacts"][0]["uri"]) if group else ""
    if match["output"]:
        return str(request["outputs"]["parameters"][match["output"]]["outputFile"])
    return json.dumps(request)


def artifact_metadata(content: bytes | Mapping[str, Any] | None, where: str) -> dict[str, dict[str, Any]]:
    """What a task says of each of its artifacts: KFP's executor output, as it is in the file or already read.

    :raises PhaseFailed: it is no such thing.
    """
    try:
        written = json.loads(content) if isinstance(content, bytes) else content or {}
        groups = written.get("artifacts") or {}
        return {name: dict(group["artifacts"][0].get("metadata") or {}) for name, group in groups.items()}
    except (ValueError, TypeError, AttributeError, LookupError, RecursionError) as error:
        raise PhaseFailed(
            "what a task says of its outputs cannot be read",
            where=where,
            why=f"{type(error).__name__}: {error}",
            fix='write {"artifacts": {NAME: {"artifacts": [{"metadata": {…}}]}}}, or nothing',
        ) from error


def outputs_of(component: Component, folder: TaskFolder, digests: Mapping[str, str]) -> Values:
    """What a finished task has written. `digests` are those of its artifacts.

    :raises PhaseFailed: it ended without writing something that it declares.
    :raises ConfigError: a parameter that it wrote is not of its type.
    """
    parameters = {}
    for name, parameter in component.output_parameters.items():
        if not folder.parameter(name).is_file():
            raise PhaseFailed(f"the task ended without its output parameter {name!r}", where=folder.task)
        text = folder.parameter(name).read_text(errors="replace")
        parameters[name] = from_text(text, parameter.type, f"{folder.task}, output {name}")
    metadata: Mapping[str, Any] = {}
    if folder.output_metadata.is_file():
        metadata = artifact_metadata(folder.output_metadata.read_bytes(), str(folder.output_metadata))
    artifacts = {
        name: (Stored(folder.output(name), slot.type, digests[name], folder.task, metadata.get(name, {})),)
        for name, slot in component.output_artifacts.items()
    }
    return Values(parameters, artifacts)
