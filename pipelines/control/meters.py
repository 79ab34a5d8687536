"""What a process counts of itself. It begins anew with the process; what has to be true for ever is in the database."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

disable_created_metrics()  # a sample more for each, which no query of ours reads

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
LAG_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 1.2, 2.5, 5.0, 10.0, 30.0, 120.0)


class Meters:
    """The counters of a process.

    `latency` and `requests` are by route template, so that no address of somebody's makes a series of its own.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.latency = Histogram(
            "agent_forge_api_latency_seconds",
            "From a request to the beginning of its answer.",
            ["method", "route"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self.requests = Counter(
            "agent_forge_api_requests",
            "Answered requests.",
            ["method", "route", "status"],
            registry=self.registry,
        )
        self.websockets = Gauge(
            "agent_forge_websockets", "WebSockets that are open here.", registry=self.registry
        )
        self.store_errors = Counter(
            "agent_forge_store_errors",
            "Calls of a store that have failed.",
            ["store"],
            registry=self.registry,
        )
        self.lag = Histogram(
            "agent_forge_log_lag_seconds",
            "From an event to its being readable in the log here.",
            buckets=LAG_SECONDS,
            registry=self.registry,
        )
        self.store_errors.labels("database")  # 0 until one fails
        self.tokens = Counter(
            "agent_forge_inference_tokens", "Tokens that the playground has written.", registry=self.registry
        )
        self.token_seconds = Counter(
            "agent_forge_inference_seconds", "Seconds that it took for them.", registry=self.registry
        )
