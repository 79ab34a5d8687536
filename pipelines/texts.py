"""Texts that a run reads beside its models: what is held out for perplexity, and what calibrates the compression.

A task runs in a folder of its own, and on another machine in a pod: a path is made whole where the run is planned, and
one that leads nowhere is refused there, hours before the task that reads it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from components.shared.runtime.config.settings import as_json
from components.shared.runtime.errors import InputError

from .phases import PHASES
from .settings import parameter_of

KEYS = ("evaluation.text", "compression.calibration.text")
"""Settings that name a text: a file, or an address with `://`."""


def found(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The same parameters of a pipeline, with whole paths in place of relative ones.

    :param parameters: with valid settings, a JSON text of each phase.
    :raises InputError: a text is no file of this machine.
    """
    changed = dict(parameters)
    for name, tree in _trees(parameters):
        sections = dict(_sections(tree))
        for key, section in sections.items():
            section["text"] = _whole(key, section["text"])
        if sections:
            changed[name] = as_json(tree)
    return changed


def refuse_local(parameters: Mapping[str, Any]) -> None:
    """Refuse texts that a pod could not read.

    :param parameters: see `found`.
    :raises InputError: a text is no address in a store.
    """
    for _, tree in _trees(parameters):
        for key, section in _sections(tree):
            raise InputError(
                "a pod cannot read a file of this machine",
                where=f"{key}={section['text']}",
                fix="put it into a folder of its own in the cluster's object store, and give its s3:// address",
            )


def _trees(parameters: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each phase's settings, with the name of their parameter."""
    for phase in PHASES:
        if (name := parameter_of(phase)) in parameters:
            yield name, json.loads(parameters[name])


def _sections(tree: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The sections whose `text` is a path, with the whole key of it."""
    for key in KEYS:
        section: Any = tree
        for part in key.split(".")[:-1]:
            section = section.get(part) or {}
        if section.get("text") and "://" not in section["text"]:
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
