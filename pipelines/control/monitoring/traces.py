"""Traces, where FORGE_TRACES says where to: a span for each request by its route, and for what it is made of.

What cannot be delivered is dropped, and no request waits for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from typing import Any
from urllib.parse import urlsplit

from fastapi.telemetry import TelemetryConfig

from ..settings import ControlSettings

PATH = "/v1/traces"
UNTRACED = ("/healthz", "/readyz", "/metrics/prometheus")
"""What machines ask every few seconds."""

PATIENCE_SECONDS = 5.0


class Traces:
    """Where spans go: nowhere without a setting."""

    def __init__(self, settings: ControlSettings) -> None:
        self._provider: Any = _provider(settings.traces, settings.role) if settings.traces else None

    @property
    def config(self) -> TelemetryConfig:
        """What FastAPI wants to know. Metrics and logs have their own ways: it says neither."""
        off: TelemetryConfig = {"metrics": False, "logs": False, "exclude": _is_untraced}
        if self._provider is None:
            return {**off, "tracing": False}
        return {**off, "tracer_provider": self._provider}

    async def close(self) -> None:
        """Deliver what is left, as far as somebody takes it."""
        if self._provider is not None:
            await asyncio.to_thread(self._provider.shutdown)


def _provider(address: str, role: str) -> Any:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    endpoint = address if urlsplit(address).path.strip("/") else f"{address.rstrip('/')}{PATH}"
    provider = TracerProvider(resource=Resource.create({"service.name": f"agent-forge-{role}"}))
    exporter = OTLPSpanExporter(endpoint=endpoint, timeout=PATIENCE_SECONDS)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider


def _is_untraced(scope: MutableMapping[str, Any]) -> bool:
    return scope.get("path") in UNTRACED
