"""What a phase is asked to do, as KFP's launcher says it: one JSON object, the executor input.

A list travels as numbered inputs, since KFP hands a list of artifacts to nothing inside a loop: what arrives as
`model_1, model_2, …` is the list `models` of the phase, and `base_model_1, …` its parameter `base_models`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..artifact import artifact
from ..artifact.artifact import Artifact
from ..artifact.plain_model import adopt
from ..errors import ArtifactError, ConfigError, InputError
from ..store import local_copy

COMMON = ("settings", "seed", "code_version", "checkpoint_root", "pipeline_run")
"""KFP parameters that every phase understands; all others are the phase's own."""

PLACEMENT = re.compile(r"pipelinechannel--.*|accelerator_(count|limit|type)")
"""The names under which KFP passes a task's accelerators: where a pod runs is no part of what it does."""

LOGS = "executor-logs"
"""The output that KFP's launcher adds to every container for its log (PUBLISH_LOGS)."""

METRICS = "metrics"
"""The output beside the artifact that gets the task's record."""

NUMBERED = re.compile(r"(?P<name>.+)_(?P<number>[1-9][0-9]*)")

MOUNTS = {"minio": "/minio/", "s3": "/s3/", "gs": "/gcs/"}
"""Where KFP's launcher puts an artifact of each scheme in the pod."""


@dataclass
class Request:
    """One piece of work. Places are local folders or addresses in a store.

    :param uri: where KFP's launcher will upload the target to; "" by hand and under the local runner.
    :param record: the file that gets the task's record, None where there is no such output.
    :param settings: all of them as JSON, composed where the run was submitted; "" by hand, where `profile` and
        `overrides` say what is composed here.
    """

    inputs: dict[str, list[str]]
    target: str
    output_name: str = "model"
    output_file: Path | None = None
    uri: str = ""
    record: Path | None = None
    settings: str = ""
    profile: str = ""
    overrides: list[str] = field(default_factory=list)
    seed: int | None = None
    code_version: str = ""
    checkpoint_root: str = ""
    pipeline_run: str = ""
    step: str = ""
    progress: str = ""
    parameters: dict[str, Any] = field(default_factory=dict)

    @property
    def by_hand(self) -> bool:
        """Whether a person asks, and no pipeline."""
        return self.output_file is None

    @property
    def in_pod(self) -> bool:
        """Whether a KFP cluster asks: its artifacts have addresses in an object store, the local runner's have not."""
        return "://" in self.uri


def from_kfp(text: str, *, beside: str = METRICS) -> Request:
    """KFP's executor input, the JSON that stands for `{{$}}`.

    Of the outputs, the log that the launcher adds is left out by name.

    :param beside: the output beside the artifact, whose file becomes `record`.
    :raises ConfigError: not JSON, or not one output artifact.
    """
    try:
        executor_input = json.loads(text)
        inputs, outputs = executor_input.get("inputs") or {}, executor_input["outputs"]
        artifacts = {
            name: group["artifacts"][0] for name, group in outputs["artifacts"].items() if name != LOGS
        }
        paths = {name: _path(artifact_json) for name, artifact_json in artifacts.items()}
        addresses = {
            key: [_path(artifact_json) for artifact_json in group.get("artifacts") or []]
            for key, group in (inputs.get("artifacts") or {}).items()
        }
        values = dict(inputs.get("parameterValues") or {})
        file = Path(outputs["outputFile"])
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError) as error:
        why = f"{type(error).__name__}: {error}"
        raise ConfigError(
            "KFP's input cannot be read", where="--executor-input", why=why, fix="pass {{$}} as it is"
        ) from error
    record = artifacts.pop(beside, None)
    if len(artifacts) != 1:
        why = f"it names {len(artifacts)}: {', '.join(sorted(artifacts))}"
        raise ConfigError(
            "a phase writes one artifact",
            where="--executor-input, outputs",
            why=why,
            fix="pass {{$}} as it is",
        )
    [(name, target)] = artifacts.items()
    request = Request(
        inputs={key: group for key, group in addresses.items() if group},
        target=paths[name],
        output_name=name,
        output_file=file,
        uri=str(target.get("uri", "")),
        record=None if record is None else Path(paths[beside]),
    )
    take(request, values)
    group(request)
    return request


def group(request: Request) -> None:
    """Put numbered inputs and parameters together: `model_1`, `model_2` become the list `models`.

    :raises ConfigError: a list is given both whole and in numbers, or numbers are missing.
    """
    for name, members in _numbered(request.inputs).items():
        request.inputs[name] = [address for member in members for address in request.inputs.pop(member)]
    for name, members in _numbered(request.parameters).items():
        request.parameters[name] = [request.parameters.pop(member) for member in members]


def _numbered(names: Iterable[str]) -> dict[str, list[str]]:
    """{"models": ["model_1", "model_2", "model_10"]}: the lists among these names, in the order of the numbers."""
    names = list(names)
    lists: dict[str, list[tuple[int, str]]] = {}
    for name in names:
        if match := NUMBERED.fullmatch(name):
            lists.setdefault(f"{match['name']}s", []).append((int(match["number"]), name))
    for name, members in lists.items():
        if name in names:
            raise ConfigError(
                f"{name} is given twice", where=name, why=f"as a list, and as {members[0][1]}", fix="give one"
            )
        numbers = sorted(number for number, _ in members)
        if numbers != list(range(1, len(numbers) + 1)):
            raise ConfigError(
                f"the list {name} has gaps",
                where=name,
                why=f"it is given as {', '.join(sorted(member for _, member in members))}",
                fix="number them from 1, without gaps: a lost one would change what is merged",
            )
    return {name: [member for _, member in sorted(members)] for name, members in lists.items()}


def require_unchanged(inputs: Mapping[str, Sequence[Artifact]]) -> None:
    """Verify the inputs again, after the work: what a phase reads late is what was verified before.

    :raises ArtifactError: one is not what it was.
    """
    for artifacts in inputs.values():
        for before in artifacts:
            after = _opened(before.path, by_hand=True)
            if after.digest != before.digest:
                raise ArtifactError(
                    "an input was changed while the phase worked on it",
                    where=str(before.path),
                    why=f"its digest was {before.digest}, and is {after.digest}",
                    fix="start the phase again, and leave its inputs alone while it works",
                )


def _opened(folder: Path, *, by_hand: bool) -> Artifact:
    plain = by_hand and not (folder / artifact.MANIFEST).exists()
    return adopt(folder) if plain else artifact.read(folder)


def read(request: Request) -> dict[str, list[Artifact]]:
    """Fetch and verify the inputs. A plain Hugging Face model is adopted when it is given by hand.

    :raises InputError: there is nothing at an address.
    """
    artifacts: dict[str, list[Artifact]] = {}
    for name, addresses in request.inputs.items():
        for address in addresses:
            folder = local_copy.download(address, local_copy.inputs())
            artifacts.setdefault(name, []).append(_opened(folder, by_hand=request.by_hand))
    return artifacts


def take(request: Request, values: dict[str, Any]) -> None:
    """Parameters into their places. Whole numbers become integers: KFP's JSON knows only doubles."""
    for name, value in values.items():
        if PLACEMENT.fullmatch(name):
            continue
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if name not in COMMON:
            request.parameters[name] = value
        elif value is None or value == "":
            continue
        elif name == "settings":
            request.settings = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        elif name == "seed":
            try:
                request.seed = int(value)
                if isinstance(value, (bool, float)):  # whole numbers are none here any more
                    raise ValueError
            except (TypeError, ValueError, OverflowError):
                raise ConfigError(
                    f"the seed is {value!r}", where="parameter seed", fix="give an integer ≥ 0"
                ) from None
        else:
            setattr(request, name, str(value))


def _path(artifact_json: dict[str, Any]) -> str:
    """Where KFP's launcher has put an artifact, or expects it."""
    if artifact_json.get("customPath"):
        return str(artifact_json["customPath"])
    uri = str(artifact_json.get("uri") or "")
    scheme, separator, rest = uri.partition("://")
    if not separator:
        if not uri:
            raise InputError(
                "an artifact has no address",
                where=f"--executor-input, {artifact_json.get('name', 'artifact')}",
                fix="pass {{$}} as it is",
            )
        return uri
    if scheme not in MOUNTS:
        known = ", ".join(f"{name}://" for name in MOUNTS)
        raise InputError(
            f"artifacts of {scheme}:// are not supported",
            where=uri,
            fix=f"use a plain path or one of {known}",
        )
    return MOUNTS[scheme] + rest
