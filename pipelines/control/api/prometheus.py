"""The page that Prometheus reads."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from prometheus_client.exposition import choose_encoder

from ..auth.guard import right
from ..monitoring.exposition import Page
from ..monitoring.snapshot import watcher
from .app import Here

router = APIRouter(tags=["monitoring"])


@router.get("/metrics/prometheus", dependencies=[right("metrics", "read")], response_class=Response)
async def prometheus(here: Here, request: Request) -> Response:
    """All metrics, in the format that Prometheus asks for. A key with the scope metrics:read is enough for it."""
    encode, kind = choose_encoder(request.headers.get("accept", ""))
    page = Page(await watcher(here).look(), here.meters.registry.collect())
    return Response(encode(page), media_type=None, headers={"Content-Type": kind})
