"""What a phase is asked to do: by KFP's executor input (JSON), or by hand on the command line."""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import artifact, bundle
from .artifact import Artifact
from .errors import ConfigError, InputError
from .places import localise

COMMON = ("profile", "overrides", "seed", "code_version", "config_digest", "checkpoint_root", "pipeline_run")
"""KFP parameters that every phase understands; all others are the phase's own."""

PLACEMENT = "pipelinechannel--"
"""What the names begin with under which KFP passes a task's accelerators: where a pod runs is no part of what it does."""

MOUNTS = {"minio": "/minio/", "s3": "/s3/", "gs": "/gcs/"}
"""Where KFP's launcher puts an artifact of each scheme in the pod."""


OPTIONS = (
    (
        "--input",
        "[NAME=]PLACE",
        "many",
        "an artifact or a Hugging Face model: folder or s3://bucket/prefix; NAME is what "
        "the pipeline calls this input (default: model)",
    ),
    ("--output", "PLACE", "one", "where the new artifact goes: folder or s3://bucket/prefix"),
    ("--profile", "NAME", "one", "tiny, small or full (default: tiny)"),
    ("--seed", "INTEGER", "one", "default: the one in configs/config.yaml"),
    ("--set", "KEY=VALUE", "many", "a parameter of the pipeline's component, such as variant=memory"),
    ("--checkpoints", "PLACE", "one", "folder or s3:// (default: OUTPUT.checkpoints)"),
    ("--progress", "FILE", "one", "gets a JSON line whenever the phase has come further"),
    ("--step", "NAME", "one", "one step of the phase, where it has several"),
    ("--executor-input", "JSON", "one", "what KFP passes, in place of all of the above"),
)

EXAMPLE = """example:
  python -m components.{phase} --input runs/demo/model --output runs/demo/{phase} {phase}.threads=1

The output must not exist yet; it appears when it is complete. Killed and started again with the same
arguments, the phase goes on from its last checkpoint. Its settings are explained in
components/{phase}/README.md, and their defaults are in configs/phase/{phase}.yaml.
"""


@dataclass
class Request:
    """One piece of work. Places are local folders or s3:// addresses."""

    inputs: dict[str, list[str]]
    target: str
    output_name: str = "model"
    output_file: Path | None = None
    profile: str = "tiny"
    overrides: list[str] = field(default_factory=list)
    seed: int | None = None
    code_version: str = ""
    config_digest: str = ""
    checkpoint_root: str = ""
    pipeline_run: str = ""
    step: str = ""
    progress: str = ""
    parameters: dict[str, Any] = field(default_factory=dict)

    @property
    def by_hand(self) -> bool:
        return self.output_file is None


def parse(phase: str, about: str, argv: Sequence[str] | None) -> Request:
    """Read the command line.

    :raises ConfigError: it does not say what to do.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m components.{phase}",
        description=about,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=EXAMPLE.format(phase=phase),
    )
    for option, place, kind, text in OPTIONS:
        if kind == "many":
            parser.add_argument(option, action="append", default=[], metavar=place, help=text)
        else:
            parser.add_argument(option, default="", metavar=place, help=text)
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="overrides of the settings")
    given = parser.parse_intermixed_args(argv)
    if given.executor_input:
        request = from_kfp(given.executor_input)
        request.step = given.step
        request.overrides += given.overrides
    else:
        if not given.output:
            raise ConfigError(
                "there is no --output", where=parser.prog, fix="say where the artifact goes; --help shows how"
            )
        request = Request(_named(given.input), given.output)
        _take(request, {"profile": given.profile, "seed": given.seed, "checkpoint_root": given.checkpoints})
        _take(request, dict(_setting(text) for text in given.set))
        request.overrides += given.overrides
        request.step = given.step
    request.progress = given.progress or os.environ.get("FORGE_PROGRESS", "")
    request.checkpoint_root = request.checkpoint_root or os.environ.get("FORGE_CHECKPOINTS", "")
    request.pipeline_run = request.pipeline_run or os.environ.get("FORGE_PIPELINE_RUN", "")
    return request


def from_kfp(text: str) -> Request:
    """KFP's executor input, the JSON that stands for `{{$}}`.

    :raises ConfigError: not JSON, or not one output artifact.
    """
    try:
        given = json.loads(text)
        inputs, outputs = given.get("inputs", {}), given["outputs"]
        artifacts = outputs["artifacts"]
        file = Path(outputs["outputFile"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        why = f"{type(error).__name__}: {error}"
        raise ConfigError(
            "KFP's input cannot be read", where="--executor-input", why=why, fix="pass {{$}} as it is"
        ) from error
    if len(artifacts) != 1:
        why = f"it names {len(artifacts)}: {', '.join(sorted(artifacts))}"
        raise ConfigError("a phase writes one artifact", where="--executor-input, outputs", why=why)
    [(name, target)] = artifacts.items()
    request = Request(
        inputs={
            key: [_path(one) for one in found.get("artifacts", [])]
            for key, found in inputs.get("artifacts", {}).items()
        },
        target=_path(target["artifacts"][0]),
        output_name=name,
        output_file=file,
    )
    request.inputs = {key: places for key, places in request.inputs.items() if places}
    _take(request, inputs.get("parameterValues", {}))
    return request


def read(request: Request) -> dict[str, list[Artifact]]:
    """Fetch and verify the inputs. A plain Hugging Face model is adopted when it is given by hand.

    :raises InputError: there is nothing at an address.
    """
    cache = Path(tempfile.gettempdir()) / "agent-forge" / "inputs"
    found: dict[str, list[Artifact]] = {}
    for name, places in request.inputs.items():
        for place in places:
            folder = localise(place, cache)
            plain = request.by_hand and not (folder / artifact.MANIFEST).exists()
            one = artifact.adopt(folder) if plain else artifact.read(folder)
            found.setdefault(name, []).extend(bundle.members(one))
    return found


def _take(request: Request, values: dict[str, Any]) -> None:
    """Parameters into their places. Whole numbers become integers: KFP's JSON knows only doubles."""
    for name, value in values.items():
        if name.startswith(PLACEMENT):
            continue
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if name not in COMMON:
            request.parameters[name] = value
        elif value is None or value == "":
            continue
        elif name == "overrides":
            request.overrides += _overrides(value)
        elif name == "seed":
            try:
                request.seed = int(value)
            except (TypeError, ValueError):
                raise ConfigError(
                    f"the seed is {value!r}", where="parameter seed", fix="give an integer ≥ 0"
                ) from None
        else:
            setattr(request, name, str(value))


def _overrides(value: object) -> list[str]:
    try:
        found = json.loads(value) if isinstance(value, str) else value
    except ValueError:
        found = None
    if not isinstance(found, list) or not all(isinstance(item, str) for item in found):
        fix = 'give a JSON list of "section.key=value"'
        raise ConfigError(f"the overrides are {value!r}", where="parameter overrides", fix=fix)
    return found


def _named(places: Sequence[str]) -> dict[str, list[str]]:
    inputs: dict[str, list[str]] = {}
    for place in places:
        name, equals, rest = place.partition("=")
        if not equals or not name.isidentifier() or Path(place).exists():
            name, rest = "model", place
        inputs.setdefault(name, []).append(rest)
    return inputs


def _setting(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ConfigError("a parameter has no value", where=f"--set {text}", fix="write --set key=value")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _path(one: dict[str, Any]) -> str:
    """Where KFP's launcher has put an artifact, or expects it."""
    if one.get("customPath"):
        return str(one["customPath"])
    uri = str(one.get("uri", ""))
    scheme, separator, rest = uri.partition("://")
    if not separator:
        if not uri:
            raise InputError(
                "an artifact has no address", where=f"--executor-input, {one.get('name', 'artifact')}"
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
