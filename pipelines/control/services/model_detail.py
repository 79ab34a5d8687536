"""A model in full: what its manifest says, and what may be done with it."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from ..auth.rights import Principal
from ..context import Control
from .catalogue import Model, find
from .lineage import Deployment, deployments, references
from .manifests import head_of
from .overall import Overall, overall_of

MOST_FILES = 1000


class Allowed(BaseModel):
    """Whether something may be done, and why not."""

    allowed: bool
    why: str = ""


class File(BaseModel):
    """A file of a model."""

    name: str
    bytes: int
    sha256: str


class ModelDetail(Model):
    """All of a model but its tensors and its lineage.

    :param overall: of its suites, each corrected for guessing; null where it was not scored.
    :param results: of each suite: score, interval, how many items, what chance gives, and the parts of it.
    :param gates: metric, value, bound, and whether it passed.
    :param claims: each beside its control, with intervals.
    :param extra: what else its phase says: a search's population, front and champion; stages; samples.
    :param sizes: what its bytes are spent on, as its phase says it.
    :param timing: seconds, memory, host.
    :param config: the settings that it was made with.
    :param tensor_bits: stored, a weight.
    :param files: the first thousand, by name; `file_count` is how many there are.
    """

    format: int
    parents: list[str]
    seed: int
    code_version: str
    config_digest: str
    config: dict[str, Any]
    metrics: dict[str, float]
    overall: Overall | None
    results: dict[str, dict[str, Any]]
    gates: list[dict[str, Any]]
    claims: list[dict[str, Any]]
    curves: dict[str, Any]
    sizes: dict[str, Any]
    extra: dict[str, Any]
    timing: dict[str, Any]
    tensor_count: int
    tensor_bits: float | None
    file_count: int
    files: list[File]
    deployments: list[Deployment]
    actions: dict[str, Allowed]


async def detail(control: Control, digest: str, who: Principal) -> ModelDetail:
    """A model in full.

    :param who: asks; what they may not do is said with the reason.
    :raises Refused: there is none.
    :raises ForgeError: its manifest cannot be read.
    """
    found = await find(control.database, digest)
    head = await head_of(control, digest, found.address)
    async with control.database.read() as connection:
        referring = await references(connection, digest)
        written = await deployments(connection, digest)
    extra = head["extra"]
    files = head["files"]
    weights = head["parameters"]
    return ModelDetail(
        **found.model_dump(),
        **{
            name: head[name]
            for name in (
                "format", "parents", "seed", "code_version", "config_digest", "config", "metrics", "gates", "timing",
                "tensor_count",
            )
        },
        overall=overall_of(head["scores"]),
        results=head["scores"],
        claims=_list(extra.get("controls")),
        curves=extra["curves"] if isinstance(extra.get("curves"), dict) else {},
        sizes=extra["sizes"] if isinstance(extra.get("sizes"), dict) else {},
        extra={name: value for name, value in extra.items() if name not in ("controls", "curves", "sizes")},
        tensor_bits=8 * head["tensor_bytes"] / weights if weights else None,
        file_count=len(files),
        files=[File(name=name, **files[name]) for name in sorted(files)[:MOST_FILES]],
        deployments=written,
        actions=_actions(found, who, referring),
    )  # fmt: skip


def _actions(found: Model, who: Principal, referring: list[str]) -> dict[str, Allowed]:
    theirs = who.owns(found.owner)
    owned = "" if theirs else f"it belongs to {found.owner_name or 'another'}"

    def allowed(action: str, why: str) -> Allowed:
        if not who.may("models", action):  # type: ignore[arg-type]  # the three below
            why = f"{who.name or 'you'} may not {action} models"
        return Allowed(allowed=not why, why=why)

    return {
        "tag": allowed("write", owned),
        "pin": allowed("write", owned),
        "deploy": allowed("execute", owned),
        "answer": allowed("execute", "" if found.kind == "model" else f"it is a {found.kind}"),
        "delete": allowed("delete", owned or "; ".join(referring)),
    }


def _list(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
