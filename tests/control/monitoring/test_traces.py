"""Spans go where FORGE_TRACES says, by route; without it, or with nobody there, nothing is different."""

from __future__ import annotations

import http.server
import json
import logging
import threading
import time
from collections.abc import Iterator

import httpx2
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from pipelines.control.api.app import application
from pipelines.control.context import opened
from pipelines.control.monitoring.logs import JsonLines
from pipelines.control.monitoring.traces import Traces
from pipelines.control.settings import ControlSettings
from tests.contract.stores.s3_servers import free_port


@pytest.fixture
def collector() -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    """An OTLP receiver, and what it has received."""
    received: list[tuple[str, bytes]] = []

    class Takes(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                import gzip

                body = gzip.decompress(body)
            received.append((self.path, body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Takes)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", received
    server.shutdown()
    server.server_close()


async def ask(settings: ControlSettings, *paths: str) -> list[int]:
    """Serve, ask, and end."""
    app = application(settings)
    async with app.router.lifespan_context(app):
        transport = httpx2.ASGITransport(app=app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return [(await client.get(path)).status_code for path in paths]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_requests_are_spans_by_their_route(
    settings: ControlSettings, collector: tuple[str, list[tuple[str, bytes]]]
) -> None:
    address, received = collector
    settings = settings.model_copy(update={"traces": address, "role": "api"})
    assert await ask(settings, "/phases/runs/demo", "/healthz", "/readyz", "/metrics/prometheus") == [
        401,
        200,
        200,
        401,
    ]
    assert {path for path, _ in received} == {"/v1/traces"}
    spans, services = [], set()
    for _, body in received:
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            services |= {
                each.value.string_value for each in resource.resource.attributes if each.key == "service.name"
            }
            spans += [span for scope in resource.scope_spans for span in scope.spans]
    requests = [span for span in spans if span.kind == span.SPAN_KIND_SERVER]
    assert services == {"agent-forge-api"} and len(requests) == 1
    assert requests[0].name.startswith("GET /phases/runs/{")
    assert {each.key: each.value.int_value for each in requests[0].attributes}[
        "http.response.status_code"
    ] == 401


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_nobody_waits_for_a_collector_that_is_not_there(settings: ControlSettings) -> None:
    nowhere = settings.model_copy(update={"traces": f"http://127.0.0.1:{free_port()}"})
    app = application(nowhere)
    async with opened(nowhere) as control:
        app.state.control = control
        transport = httpx2.ASGITransport(app=app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
            began = time.monotonic()
            assert (await client.get("/phases/runs/demo")).status_code == 401
            assert time.monotonic() - began < 5.0


def test_without_a_setting_nothing_is_traced() -> None:
    assert Traces(ControlSettings()).config["tracing"] is False


def test_a_line_of_the_log_says_the_trace_that_it_belongs_to() -> None:
    from opentelemetry.sdk.trace import TracerProvider

    with TracerProvider().get_tracer("test").start_as_current_span("work") as span:
        line = json.loads(JsonLines().format(logging.makeLogRecord({"msg": "inside", "levelname": "INFO"})))
    assert int(line["trace"], 16) == span.get_span_context().trace_id
