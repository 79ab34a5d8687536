"""`forge.json`: what an artifact holds, where it comes from, and how good it is.

The manifest names every file with its size and SHA-256. `digest` is over these only: two artifacts with the
same files are the same artifact, whenever and wherever they were made. The manifest guards itself too: its
last field, `seal`, is the SHA-256 of all the others, and its text is the only text that its content may have:
no changed byte goes unseen.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any, ClassVar, Literal

from pydantic import ConfigDict, TypeAdapter
from typing_extensions import TypedDict

from ..errors import ArtifactError
from ..store import sealed_json
from ..store.interface import is_safe_name

MANIFEST = "forge.json"
FORMAT = 1
STYLE: dict[str, Any] = {"indent": 1, "ensure_ascii": False, "allow_nan": False}
"""How its text is written."""

Kind = Literal["model", "trunk", "population"]


class FileEntry(TypedDict):
    """A file of the artifact."""

    sha256: str
    bytes: int


class TensorEntry(TypedDict):
    """How a weight lies on disk. `codec` is empty where the stored numbers are the weight itself."""

    dtype: str
    shape: list[int]
    codec: str
    bytes: int


@dataclass(frozen=True)
class Manifest:
    """What is known of an artifact.

    :param kind: model, trunk or population.
    :param phase: that made it; "adopted" for a plain Hugging Face model.
    :param digest: of the content: `digest_of(files)`.
    :param parents: digests of the inputs, in order.
    :param config: the composed settings, and `config_digest` their digest.
    :param metrics: what the phase measured; `scores` of the suites; `gates` with their results.
    :param bytes: of all files but the manifest.
    :param parameters: weights that the model computes with, not the numbers stored.
    :param tensors: how each weight lies on disk, by name.
    :param timing: seconds, memory, host, times: all that two equal runs differ in.
    :param extra: what else the phase leaves for the report, plain and deterministic.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True)

    format: int
    kind: Kind
    phase: str
    digest: str
    parents: list[str]
    config: dict[str, Any]
    config_digest: str
    seed: int
    code_version: str
    metrics: dict[str, float]
    scores: dict[str, dict[str, Any]]
    gates: list[dict[str, Any]]
    bytes: int
    parameters: int
    files: dict[str, FileEntry]
    tensors: dict[str, TensorEntry]
    timing: dict[str, Any]
    extra: dict[str, Any]


def digest_of(files: Mapping[str, FileEntry]) -> str:
    """The content digest: SHA-256 over the files' names, sizes and SHA-256s, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(json.dumps([name, files[name]["bytes"], files[name]["sha256"]]).encode() + b"\n")
    return digest.hexdigest()


def _not_json(value: Any, path: str) -> str:
    """The path in `value` of the first item that is not plain JSON with finite numbers; empty where there is none."""
    if isinstance(value, Mapping):
        items = [(item, f"{path}.{key}") for key, item in value.items()]
    elif isinstance(value, (list, tuple)):
        items = [(item, f"{path}[{index}]") for index, item in enumerate(value)]
    elif (
        value is None or isinstance(value, (str, bool, int)) or (isinstance(value, float) and isfinite(value))
    ):
        return ""
    else:
        return f"{path.lstrip('.')} is {value!r:.80}"
    return next(filter(None, (_not_json(item, inner) for item, inner in items)), "")


def encode(manifest: Manifest) -> bytes:
    """The bytes of `forge.json`.

    :raises ArtifactError: something in it is not plain JSON (a tensor, NaN, infinity).
    """
    content = dataclasses.asdict(manifest)
    try:
        return sealed_json.encode(content, **STYLE)
    except (TypeError, ValueError) as error:
        raise ArtifactError(
            "the manifest cannot be written",
            where=manifest.phase,
            why=_not_json(content, "") or str(error),
            fix="give the manifest plain JSON with finite numbers only",
        ) from error


def decode(text: bytes, where: str) -> Manifest:
    """The manifest in `text`, checked in full. `where` names the file in errors.

    :raises ArtifactError: unknown format, damaged, an unsafe file name, a digest not that of its files.
    """
    damaged: dict[str, Any] = {
        "where": where,
        "fix": "fetch the artifact again, or run the phase that made it again",
    }
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        content = None  # what is wrong with it is said below
    if isinstance(content, dict) and content.get("format") != FORMAT:
        raise ArtifactError(
            f"the manifest has format {content.get('format')!r:.80}",
            where=where,
            why=f"this version reads format {FORMAT}",
            fix="use the version of Agent Forge that wrote it",
        )
    try:
        unsealed = sealed_json.decode(text, **STYLE)
        # Lists and dicts, as in strict JSON.
        manifest = TypeAdapter(Manifest).validate_json(json.dumps(unsealed, **STYLE))
    except ValueError as error:
        raise ArtifactError("the manifest is damaged", why=str(error), **damaged) from error
    for name in manifest.files:
        if not is_safe_name(name) or name == MANIFEST:
            raise ArtifactError(
                f"the manifest holds the unsafe file name {name!r}",
                where=where,
                fix="do not use this artifact",
            )
    if manifest.digest != digest_of(manifest.files):
        raise ArtifactError("the manifest's digest is not that of its files", **damaged)
    if manifest.bytes != sum(entry["bytes"] for entry in manifest.files.values()):
        raise ArtifactError("the manifest's size is not that of its files", **damaged)
    return manifest
