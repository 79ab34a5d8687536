"""The page that Prometheus reads: what a snapshot says, as families of metrics."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.utils import floatToGoString

from pipelines.analysis.performance import Pace
from pipelines.phases import PHASES

from ..cache.layers import Counts
from .history import BUCKETS, PhaseHistory
from .live import Running
from .machine import Machine
from .snapshot import Snapshot

PREFIX = "agent_forge"


class Page:
    """Families that a registry's encoder can write, in place of a registry.

    :param snapshot: what they say.
    :param more: of the process itself.
    """

    def __init__(self, snapshot: Snapshot, more: Iterable[Metric] = ()) -> None:
        self._families = [*families(snapshot), *more]

    def collect(self) -> Iterator[Metric]:
        """What `generate_latest` asks for."""
        return iter(self._families)


def families(snapshot: Snapshot) -> Iterator[Metric]:
    """All of a snapshot's. What the database would say is left out where it does not answer, not said to be 0."""
    yield from _machine(snapshot.machine)
    yield from _cache(snapshot.cache)
    yield _gauge("up", "Whether what we stand on answers.", "dependency", snapshot.up)
    if snapshot.running is None:
        return
    for phase in PHASES:
        yield from _phase(phase, snapshot.past[phase], snapshot.running)
    yield _total("retries", "Attempts after the first.", snapshot.past, "retries")
    yield _total("gate_failures", "Attempts that failed at a gate.", snapshot.past, "gates")
    yield _gates(snapshot.gates)
    yield _total("executions", "Tasks that have succeeded.", snapshot.past, "succeeded")
    yield _total("store_failures", "Attempts that failed because of a store.", snapshot.past, "stores")
    yield from _paces(snapshot.paces)
    yield from _running(snapshot.running)


def _phase(phase: str, past: PhaseHistory, running: Running) -> Iterator[Metric]:
    """The three of the documents. The label `phase` keeps them apart where a query takes several by name."""
    progress = GaugeMetricFamily(
        f"{PREFIX}_{phase}_progress", "How much of it is done, of runs that go on.", labels=["phase", "run"]
    )
    for run in running.runs:
        if phase in run.shares:
            progress.add_metric([phase, run.id], run.shares[phase])
    yield progress
    latency = HistogramMetricFamily(
        f"{PREFIX}_{phase}_latency", "Seconds of its tasks that have succeeded.", labels=["phase"]
    )
    counted = [
        (floatToGoString(bound), float(count)) for bound, count in zip(BUCKETS, past.below, strict=True)
    ]
    latency.add_metric([phase], [*counted, ("+Inf", float(past.succeeded))], past.seconds)
    yield latency
    errors = CounterMetricFamily(f"{PREFIX}_{phase}_errors", "Attempts that have failed.", labels=["phase"])
    errors.add_metric([phase], past.errors)
    yield errors


def _gates(gates: Mapping[tuple[str, str], float]) -> Metric:
    labels = ["phase", "result"]
    family = CounterMetricFamily(f"{PREFIX}_gates", "Gates of results that were published.", labels=labels)
    for (phase, result), count in gates.items():
        family.add_metric([phase, result], count)
    return family


def _paces(paces: Sequence[Pace]) -> Iterator[Metric]:
    labels = ["phase", "profile"]
    ratio = GaugeMetricFamily(
        f"{PREFIX}_degradation_ratio",
        "Mean time of the last ten executions to the first ten's.",
        labels=labels,
    )
    count = GaugeMetricFamily(f"{PREFIX}_phase_executions", "Runs that have executed it.", labels=labels)
    for pace in paces:
        names = [pace.phase, pace.profile]
        count.add_metric(names, pace.executions)
        if pace.baseline_time > 0:
            ratio.add_metric(names, pace.recent_time / pace.baseline_time)
    yield from (ratio, count)


def _cache(counts: Counts) -> Iterator[Metric]:
    hits = CounterMetricFamily(f"{PREFIX}_cache_hits", "What a layer of the cache had.", labels=["layer"])
    for layer in ("memory", "redis", "disk"):
        hits.add_metric([layer], getattr(counts, layer))
    yield hits
    yield CounterMetricFamily(f"{PREFIX}_cache_misses", "What no layer had.", value=counts.computed)
    errors = CounterMetricFamily(f"{PREFIX}_cache_errors", "Layers that have failed.", labels=["layer"])
    errors.add_metric(["redis"], counts.redis_errors)
    errors.add_metric(["disk"], counts.disk_errors)
    yield errors


def _running(running: Running) -> Iterator[Metric]:
    yield _gauge("runs", "Runs by their state.", "state", running.states)
    yield _gauge("tasks", "Tasks of runs that go on, by their state.", "state", running.tasks)
    yield _single("queue_length", "Runs that wait.", running.waiting)
    yield _single("queue_wait_seconds", "So long the one that waits longest has waited.", running.waits)
    silence = {run.id: run.silence for run in running.runs if run.silence is not None}
    yield _gauge("silence_seconds", "Since the last event of a running run.", "run", silence)
    ages = {run.id: run.lease_age for run in running.runs if run.lease_age is not None}
    yield _gauge("lease_age_seconds", "Since whoever is at a run has said so.", "run", ages)
    metric = GaugeMetricFamily(
        f"{PREFIX}_metric", "What living runs measure.", labels=["run", "phase", "name"]
    )
    for run in running.runs:
        for (phase, name), value in run.metrics.items():
            metric.add_metric([run.id, phase, name], value)
    yield metric
    yield _single(
        "metrics_left_out",
        "Metrics of living runs for which there was no room.",
        sum(run.left_out for run in running.runs),
    )


def _machine(machine: Machine) -> Iterator[Metric]:
    yield _single("memory_usage", "Share of this machine's memory that is in use.", machine.memory_usage)
    yield _single("memory_limit_bytes", "Memory that processes here can have.", machine.memory_limit)
    yield _single("cpu_usage", "Share of this machine's cores that is busy.", machine.cpu_usage)
    yield _single("disk_usage", "Share of the runs' disk that is in use.", machine.disk_usage)
    yield _single("disk_free_bytes", "What is free there.", machine.disk_free)
    usage = {gpu.index: gpu.usage for gpu in machine.gpus}
    yield _gauge("gpu_usage", "Share of a GPU's time that it works.", "gpu", usage)
    memory = {gpu.index: gpu.memory_usage for gpu in machine.gpus}
    yield _gauge("gpu_memory_usage", "Share of a GPU's memory that is in use.", "gpu", memory)


def _single(name: str, says: str, value: float) -> Metric:
    return GaugeMetricFamily(f"{PREFIX}_{name}", says, value=float(value))


def _gauge(name: str, says: str, label: str, values) -> Metric:  # type: ignore[no-untyped-def]
    family = GaugeMetricFamily(f"{PREFIX}_{name}", says, labels=[label])
    for key, value in sorted(values.items()):
        family.add_metric([key], float(value))
    return family


def _total(name: str, says: str, past, field: str) -> Metric:  # type: ignore[no-untyped-def]
    family = CounterMetricFamily(f"{PREFIX}_{name}", says, labels=["phase"])
    for phase, each in past.items():
        family.add_metric([phase], getattr(each, field))
    return family
