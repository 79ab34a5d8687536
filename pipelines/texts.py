"""Files that a run reads beside its models: what tasks are named after, and texts for perplexity and calibration.

A task runs in a folder of its own, and on another machine in a pod: a path is made whole where the run is planned, and
one that leads nowhere is refused there, hours before the task that reads it. What lies there enters the key of the cache.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from components.shared.runtime.config.gate import Gate
from components.shared.runtime.config.settings import FILE, as_json
from components.shared.runtime.errors import InputError
from components.shared.tasks.places import content_digest, place_of

from .phases import PHASES
from .settings import parameter_of

KEYS = ("evaluation.text", "compression.calibration.text")
"""Settings that name a text: a file, or an address with `://`."""


def found(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The same parameters of a pipeline, with whole paths in place of relative ones.

    :param parameters: with valid settings, a JSON text of each phase.
    :raises InputError: a text, a corpus or a file of questions is not on this machine, or has two names.
    """
    changed = dict(parameters)
    for name, tree in _trees(parameters):
        whole = _renamed(tree, whole_name)
        for key, section in _sections(whole):
            if "://" not in section["text"]:
                section["text"] = _whole(key, section["text"])
        if whole != tree:
            changed[name] = as_json(whole)
    return changed


def whole_name(name: str) -> str:
    """A task's or a suite's name, with the whole path of what it reads.

    :raises InputError: that is not on this machine.
    """
    place = place_of(name)
    if place is None or place.kind != "folder":
        return name
    if not place.local.exists():
        what = "corpus" if place.prefix.startswith("corpus") else "file or folder"
        raise InputError(
            f"there is no such {what}",
            where=name,
            why=f"looked for in {Path.cwd()}",
            fix="give the path of what is there, its s3:// address, or a data set of the hub: corpus:owner/name",
        )
    return place.whole


def refuse_local(parameters: Mapping[str, Any]) -> None:
    """Refuse texts that a pod could not read.

    :param parameters: see `found`.
    :raises InputError: a text is no address in a store, or what a task reads neither that nor a data set of the hub.
    """
    for _, tree in _trees(parameters):
        named = [
            f"{key}={section['text']}" for key, section in _sections(tree) if "://" not in section["text"]
        ]
        for place in [*named, *(name for name in _names(tree) if _is_local(name))]:
            raise InputError(
                "a pod cannot read a file of this machine",
                where=place,
                fix="put it into a folder of its own in the cluster's object store, and give its s3:// address",
            )


def digests(settings: str) -> dict[str, str]:
    """What the files hold that a phase's settings name: name → digest.

    :param settings: the JSON text that the phase gets.
    :raises ForgeError: something is not there, or cannot be read.
    """
    tree = json.loads(settings)
    named = {name: content_digest(name) for name in _names(tree) if place_of(name)}
    return named | {key: content_digest(f"{FILE}{section['text']}") for key, section in _sections(tree)}


def _renamed(tree: Any, change: Callable[[str], str]) -> Any:
    """Settings in which all texts that are no path of a setting of their own, keys among them, are changed.

    :raises InputError: two keys become one.
    """
    if isinstance(tree, str):
        return change(tree)
    if isinstance(tree, list):
        return [_renamed(part, change) for part in tree]
    if not isinstance(tree, dict):
        return tree
    whole: dict[str, Any] = {}
    for key, value in tree.items():
        name = change(key)
        if name in whole:
            raise InputError("a mixture names the same file twice", where=key, why=f"both are {name}")
        whole[name] = [_gate(gate, change) for gate in value] if key == "gates" else _renamed(value, change)
    return whole


def _gate(gate: dict[str, Any], change: Callable[[str], str]) -> dict[str, Any]:
    """A gate whose metrics are named after files: score/file:PATH, and start/score/file:PATH - 2%."""
    changed = dict(gate)
    for key, name in zip(("metric", "value"), Gate.model_validate(gate).names, strict=False):
        before, file, path = name.partition(f"/{FILE}")
        if file:
            changed[key] = f"{before}/{change(FILE + path)}{gate[key][len(name) :]}"
    return changed


def _names(tree: Any) -> Iterator[str]:
    """All texts of settings, keys among them."""
    if isinstance(tree, str):
        yield tree
    elif isinstance(tree, dict):
        for key, value in tree.items():
            yield key
            yield from _names(value)
    elif isinstance(tree, list):
        for part in tree:
            yield from _names(part)


def _is_local(name: str) -> bool:
    place = place_of(name)
    return place is not None and place.kind == "folder"


def _trees(parameters: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each phase's settings, with the name of their parameter."""
    for phase in PHASES:
        if (name := parameter_of(phase)) in parameters:
            yield name, json.loads(parameters[name])


def _sections(tree: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The sections that name a text, with the whole key of it."""
    for key in KEYS:
        section: Any = tree
        for part in key.split(".")[:-1]:
            section = section.get(part) or {}
        if section.get("text"):
            yield key, section


def _whole(key: str, text: str) -> str:
    """The absolute path of a file that is there."""
    if not Path(text).is_file():
        raise InputError(
            "there is no such text",
            where=f"{key}={text}",
            why=f"looked for in {Path.cwd()}",
            fix="give the path of a file of UTF-8 text, or its s3:// address",
        )
    return str(Path(text).resolve())
