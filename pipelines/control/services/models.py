"""The catalogue of models: what runs have made and what was imported. Rows are a few columns of each manifest.

A model is its digest. Two runs that have made the same have one row, and a `model_use` each, with the address of each copy.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from components.shared.runtime.artifact.manifest import Manifest

from ..store.database import now
from ..store.tables import model, model_parent, model_use, run
from ..store.upsert import upsert

MADE, READ = "made", "read"


async def register(
    connection: AsyncConnection,
    manifest: Manifest,
    address: str,
    run_id: str,
    task: str,
    *,
    owner: str | None = None,
) -> None:
    """Enter a model into the catalogue; a second time changes nothing. Part of the caller's transaction.

    :param address: its folder, or its place in a store.
    :param run_id: the run that made it; "" for one that was imported.
    :param owner: a principal's id; None for that of the run.
    """
    if owner is None:
        owner = await connection.scalar(select(run.c.owner).where(run.c.id == run_id)) or ""
    time = float(await connection.scalar(select(now())) or 0.0)
    await upsert(connection, model, [_row(manifest, address, run_id, task, owner, time)])
    await upsert(
        connection,
        model_parent,
        [{"child": manifest.digest, "parent": parent} for parent in dict.fromkeys(manifest.parents)],
    )
    made = {"digest": manifest.digest, "run": run_id, "task": task, "role": MADE, "address": address}
    await upsert(
        connection,
        model_use,
        [{**made, "time": time}],
        lambda new: {"address": new.address, "time": new.time},
    )


async def read_by(connection: AsyncConnection, run_id: str, task: str, digests: Iterable[str]) -> None:
    """Note that a task reads models, whether the catalogue knows them or not. Part of the caller's transaction."""
    found = list(dict.fromkeys(digests))
    if not found:
        return
    time = float(await connection.scalar(select(now())) or 0.0)
    use = {"run": run_id, "task": task, "role": READ, "address": "", "time": time}
    await upsert(connection, model_use, [{**use, "digest": digest} for digest in found])


def inputs_of(status: Mapping[str, Any]) -> list[str]:
    """The digests of what a task reads, out of its `TaskStatus`: none where its result comes from the cache."""
    if status.get("status") in ("cached", "skipped"):
        return []
    return [
        digest for digests in (status.get("input_digests") or {}).values() for digest in digests if digest
    ]


async def forget_run(connection: AsyncConnection, run_id: str) -> list[str]:
    """Take a run that is removed out of the catalogue. A model of which another run has a copy stays, at that address.

    :returns: the digests that nobody has any more.
    """
    made = set(await connection.scalars(select(model.c.digest).where(model.c.run == run_id)))
    await connection.execute(delete(model_use).where(model_use.c.run == run_id))
    for digest in sorted(made):
        other = (
            await connection.execute(
                select(model_use.c.run, model_use.c.task, model_use.c.address, model.c.variant)
                .join(model, model.c.digest == model_use.c.digest)
                .where(model_use.c.digest == digest, model_use.c.role == MADE)
                .order_by(model_use.c.time)
                .limit(1)
            )
        ).first()
        if other is not None:
            made.discard(digest)
            text = text_of(other.run, other.task, other.variant)
            changed = {"run": other.run, "task": other.task, "address": other.address, "text": text}
            await connection.execute(update(model).where(model.c.digest == digest).values(**changed))
    await remove_rows(connection, made)
    return sorted(made)


async def remove_rows(connection: AsyncConnection, digests: Iterable[str]) -> None:
    """Take models out of the catalogue, with what is said of them."""
    from ..store.tables import deployment, model_tag

    for digest in digests:
        for table in (model, model_tag, model_use, deployment):
            await connection.execute(delete(table).where(table.c.digest == digest))
        await connection.execute(delete(model_parent).where(model_parent.c.child == digest))


def text_of(run_id: str, task: str, variant: str) -> str:
    """What a search for text looks at."""
    return f"{run_id} {task} {variant}".lower()[:600]


def _row(manifest: Manifest, address: str, run_id: str, task: str, owner: str, time: float) -> dict[str, Any]:
    scores = {suite: float(score["score"]) for suite, score in manifest.scores.items() if "score" in score}
    timing = manifest.timing
    own = manifest.config.get(manifest.phase)
    variant = str(manifest.extra.get("variant") or "")[:64]
    finished = float(timing.get("started") or 0.0) + float(timing.get("seconds") or 0.0)
    return {
        "digest": manifest.digest,
        "run": run_id,
        "task": task,
        "phase": manifest.phase,
        "kind": manifest.kind,
        "variant": variant,
        "address": address,
        "parameters": manifest.parameters,
        "bytes": manifest.bytes,
        "score": sum(scores.values()) / len(scores) if scores else None,
        "scores": scores,
        "finished": finished or time,
        "owner": owner,
        "pinned": False,
        "text": text_of(run_id, task, variant),
        "registered": str(own.get("register_as") or "")[:200] if isinstance(own, dict) else "",
    }
