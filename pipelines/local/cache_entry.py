"""An entry of the index of results, `cache/<key>.json`: whose result it is, and what it must be.

The store may be shared, and whoever can write into it can write anything: an entry names a task of a run below the runs
folder and the outputs that the component declares, or it is none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from components.shared.runtime.errors import ArtifactError, ForgeError
from components.shared.runtime.store.interface import is_safe_name

from ..ir.spec import Component
from ..ir.values import artifact_metadata, from_text
from ..runs.folder import checked_name


def _run(name: str) -> str:
    try:
        return checked_name(name)
    except ForgeError as error:
        raise ValueError(error.what) from error


def _task(name: str) -> str:
    if not is_safe_name(name):
        raise ValueError(f"{name!r:.100} is no name of a task")
    return name


class CacheEntry(BaseModel):
    """What the index says of a key.

    :param outputs: the digest of each output artifact.
    :param parameters: the text of each output parameter.
    :param metadata: what the task wrote of its outputs, None for nothing.
    """

    model_config = ConfigDict(frozen=True, strict=True)

    run: Annotated[str, AfterValidator(_run)]
    task: Annotated[str, AfterValidator(_task)]
    outputs: Mapping[str, str]
    parameters: Mapping[str, str]
    metadata: dict[str, Any] | None


def read(content: bytes, component: Component, where: str) -> CacheEntry:
    """The entry in a file of the index, for a task of this component.

    :raises ArtifactError: it is damaged, or made for another component.
    """
    try:
        entry = CacheEntry.model_validate_json(content)
        for name, parameter in component.output_parameters.items():
            from_text(entry.parameters[name], parameter.type, name)
        artifact_metadata(entry.metadata, where)
    except (ValidationError, KeyError, ForgeError) as error:
        why = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise ArtifactError("the entry of the cache is damaged", where=where, why=why) from error
    declared = {*component.output_artifacts}, {*component.output_parameters}
    if declared != ({*entry.outputs}, {*entry.parameters}):
        raise ArtifactError("the entry of the cache names other outputs than the task has", where=where)
    return entry
