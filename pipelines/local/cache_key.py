"""What a task's result depends on, as digests: its inputs, its settings and the code that runs.

For a phase the settings are those in its own parameter, and the code is its own and the shared one. So another phase's
settings, or a change in its code, do not make a cached result unusable. KFP's key is made of the same parameters.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from components.shared.runtime.artifact import artifact
from components.shared.runtime.artifact.artifact import MANIFEST
from components.shared.runtime.artifact.manifest import FileEntry, decode, digest_of
from components.shared.runtime.code import code_version
from components.shared.runtime.config.settings import model_of, parse
from components.shared.runtime.errors import ArtifactError, ForgeError
from components.shared.runtime.store import interface
from components.shared.runtime.store.uri import FOLDER, SCHEMES, open_store

from .. import texts
from ..ir.spec import Component, Container
from ..ir.values import Values
from ..phases import PHASES

ROOT = Path(__file__).resolve().parents[2]
MODULE = re.compile(r"components\.([a-z_]+)")

SETTLED = ("settings", "code_version", "checkpoint_root")
"""Parameters of a phase that the digests of its settings and of its code stand for, or that change no result."""

ADDRESSES = tuple(f"{scheme}://" for scheme in (*SCHEMES, FOLDER))

LIBRARIES = ("numpy", "torch", "transformers")
"""Those whose releases may change the last bits of a result."""


def module_of(container: Container) -> str:
    """The package below `components` that the container runs: a phase, "shared", or "" for something else."""
    arguments = container.arguments
    match = MODULE.match(arguments[1]) if arguments[:1] == ("-m",) and len(arguments) > 1 else None
    return match[1] if match else ""


def phase_of(component: Component) -> str:
    """The phase that a component belongs to, "" for none."""
    module = module_of(component.body) if isinstance(component.body, Container) else ""
    if module in PHASES:
        return module
    name = component.name.removeprefix("comp-")
    return next((phase for phase in PHASES if name == phase or name.startswith(f"{phase}-")), "")


def step_of(container: Container) -> str:
    """The value of `--step`, "" where there is none."""
    arguments = container.arguments
    return arguments[arguments.index("--step") + 1] if "--step" in arguments else ""


def cache_key(component: Component, inputs: Values) -> str:
    """sha256 of everything that decides the task's result."""
    container = component.body
    assert isinstance(container, Container)
    module = module_of(container)
    parameters = dict(inputs.parameters)
    facts: dict[str, Any] = {}
    if module in PHASES:
        facts["settings"] = settings_digest(module, parameters["settings"], parameters["seed"])
        facts["texts"] = texts.digests(parameters["settings"])
        facts["libraries"] = {name: metadata.version(name) for name in LIBRARIES}
    if module:
        facts["code"] = code_version(module)
        parameters = {name: value for name, value in parameters.items() if name not in SETTLED}
    facts |= {
        "command": [*container.command, *container.arguments],
        "environment": dict(container.environment),
        "parameters": parameters,
        "places": {text: place_digest(text) for text in _places(parameters)},
        "inputs": inputs.digests,
        "outputs": sorted([*component.output_parameters, *component.output_artifacts]),
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


@functools.cache
def settings_digest(phase: str, settings: str, seed: int) -> str:
    """The digest of the phase's settings, a JSON text, without what changes no result.

    :raises ConfigError: they do not fit the phase.
    """
    return parse(phase, model_of(phase), settings, seed).digest


def content_digest(path: Path, *, verify: bool = False) -> str:
    """The digest of an artifact: its manifest's where it has one, else over the names and bytes of its files.

    :param verify: read every byte of an artifact with a manifest too.
    :raises ArtifactError: the manifest is damaged, or does not match the files; or what is there is no file.
    """
    if (path / MANIFEST).is_file():
        if verify:
            return artifact.read(path).digest
        return decode((path / MANIFEST).read_bytes(), str(path / MANIFEST)).digest
    names = sorted(interface.walk(path)) if path.is_dir() else [""]
    return digest_of({name: _entry(path / name) for name in names})


def is_whole(path: Path) -> bool:
    """Whether an artifact was published here, and not a byte of it has changed since."""
    try:
        return (path / MANIFEST).is_file() and bool(content_digest(path, verify=True))
    except ForgeError:
        return False


def place_digest(text: str) -> str:
    """The digest of what lies at a folder or an s3:// address that a task gets as a parameter."""
    if "://" not in text:
        return content_digest(Path(text))
    entries = open_store(text).list()
    return hashlib.sha256(
        repr([(entry.key, entry.bytes, entry.tag) for entry in entries]).encode()
    ).hexdigest()


def _entry(path: Path) -> FileEntry:
    if path.exists() and not path.is_file():
        raise ArtifactError("a fifo, a socket or a device is no artifact", where=str(path), fix="remove it")
    with path.open("rb") as file:
        return FileEntry(sha256=hashlib.file_digest(file, "sha256").hexdigest(), bytes=file.tell())


def _is_gguf(text: str) -> bool:
    return text.lower().endswith(".gguf") and os.path.isfile(text)


def _places(value: Mapping[str, Any] | Sequence[Any] | Any) -> Iterator[str]:
    """The texts, at any depth, that are addresses: s3://…, or the path of a folder or of a GGUF file that is there."""
    if isinstance(value, str):
        if value.startswith(ADDRESSES) or ("/" in value and os.path.isdir(value)) or _is_gguf(value):
            yield value
    elif isinstance(value, dict):
        for element in value.values():
            yield from _places(element)
    elif isinstance(value, list):
        for element in value:
            yield from _places(element)
