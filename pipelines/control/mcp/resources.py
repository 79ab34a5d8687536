"""The resources: where a model comes from, its manifest and card, a run's report."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mcp.server.mcpserver import Context, MCPServer

from components.shared.runtime.errors import ArtifactError

from ..errors import not_found
from ..services import catalogue, lineage, runs
from ..services.manifests import head_of, read_bounded
from .access import Access
from .foreign import cleaned, quoted

CARD = "README.md"
LARGEST_CARD = 1 << 20
GENERATIONS = 32


def add(server: MCPServer[Any], access: Access) -> None:
    """Give a server these resources."""
    control = access.control
    resource: Callable[..., Any] = server.resource

    @resource("forge://models/{digest}/lineage", name="lineage", mime_type="application/json")
    async def of_model(digest: str, context: Context[Any, Any]) -> str:
        """What a model was made from, and what was made of it."""
        async with access.call(context, "lineage"):
            found = await lineage.lineage(control.database, digest, GENERATIONS)
            return json.dumps(cleaned(found.model_dump()))

    @resource("forge://models/{digest}/manifest", name="manifest", mime_type="application/json")
    async def manifest(digest: str, context: Context[Any, Any]) -> str:
        """What a model's manifest says: settings, metrics, scores, gates, files."""
        async with access.call(context, "manifest"):
            found = await catalogue.find(control.database, digest)
            return json.dumps(cleaned(await head_of(control, digest, found.address)))

    @resource("forge://models/{digest}/card", name="card", mime_type="text/markdown")
    async def card(digest: str, context: Context[Any, Any]) -> str:
        """A model's card, as its phase or somebody else has written it."""
        async with access.call(context, "card"):
            found = await catalogue.find(control.database, digest)
            head = await head_of(control, digest, found.address)
            if CARD not in head["files"]:
                raise not_found("the model has no card", digest)
            text = await asyncio.to_thread(read_bounded, found.address, CARD, LARGEST_CARD)
            return quoted(text.decode("utf-8", "replace"), f"card of model {digest[:12]}")

    @resource("forge://runs/{run}/report", name="report", mime_type="text/html")
    async def report(run: str, context: Context[Any, Any]) -> str:
        """What a run has measured, as one page."""
        async with access.call(context, "report"):
            row = await runs.row_of_run(control, run)
            return await asyncio.to_thread(_page, row["folder"])


def _page(folder: str) -> str:
    from ...report import page, records

    if not folder or not (Path(folder) / "run.json").is_file():
        raise ArtifactError(
            "this run has no folder on this machine", where=folder, fix="look at its page in Kubeflow"
        )
    return page.render(records.read(Path(folder)))
