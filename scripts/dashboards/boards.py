"""The seven dashboards. What all replicas read in the database is taken once (`max`); what each counts itself is summed."""

from __future__ import annotations

from pipelines.phases import PHASES
from scripts.dashboards.panels import Board, Panel


def by_name(ending: str) -> str:
    """All phases' metrics that end so: each has a name of its own, and the label `phase`."""
    return f'{{__name__=~"agent_forge_({"|".join(PHASES)})_{ending}"}}'


def measured(name: str, phase: str = ".+") -> str:
    """What living runs measure; its name is an expression."""
    return f'max by (run, phase, name) (agent_forge_metric{{run=~"$run", phase=~"{phase}", name=~"{name}"}})'


def once(metric: str, *labels: str) -> str:
    """What all replicas say alike."""
    return f"max by ({', '.join(labels)}) ({metric})" if labels else f"max({metric})"


REQUESTS = "rate(agent_forge_api_requests_total[5m])"
LATENCY = 'rate(agent_forge_api_latency_seconds_bucket{route!~".*events"}[5m])'
LAG = "rate(agent_forge_log_lag_seconds_bucket[5m])"
TOKENS = "sum(rate(agent_forge_inference_tokens_total[5m]))"
TOKEN_SECONDS = "sum(rate(agent_forge_inference_seconds_total[5m]))"
HITS = "sum(agent_forge_cache_hits_total)"
MISSES = "sum(agent_forge_cache_misses_total)"


def of_run(title: str, unit: str, phase: str, name: str, legend: str = "{{run}} {{name}}") -> Panel:
    """A chart of what runs measure."""
    return Panel(title, unit, [(measured(name, phase), legend)])


PIPELINE = Board(
    "pipeline",
    "pipeline",
    [
        (
            "Now",
            [
                Panel(
                    "Runs that go on", "short", [(once('agent_forge_runs{state="running"}'), "")], number=True
                ),
                Panel("Runs that wait", "short", [(once("agent_forge_queue_length"), "")], number=True),
                Panel("The longest wait", "s", [(once("agent_forge_queue_wait_seconds"), "")], number=True),
                Panel("Failed runs", "short", [(once('agent_forge_runs{state="failed"}'), "")], number=True),
                Panel("Lost runs", "short", [(once('agent_forge_runs{state="lost"}'), "")], number=True),
            ],
        ),
        (
            "Over time",
            [
                Panel("Runs by state", "short", [(once("agent_forge_runs", "state"), "{{state}}")]),
                Panel("Tasks by state", "short", [(once("agent_forge_tasks", "state"), "{{state}}")]),
            ],
        ),
        (
            "How far",
            [
                Panel(
                    "Progress",
                    "percentunit",
                    [(once(by_name("progress"), "phase", "run"), "{{run}} {{phase}}")],
                ),
                Panel(
                    "Silence of a running run", "s", [(once("agent_forge_silence_seconds", "run"), "{{run}}")]
                ),
                Panel("Age of leases", "s", [(once("agent_forge_lease_age_seconds", "run"), "{{run}}")]),
            ],
        ),
    ],
)

PHASE = Board(
    "phase",
    "phases",
    [
        (
            "Time",
            [
                Panel(
                    "Mean time of a task",
                    "s",
                    [
                        (
                            f"{once(by_name('latency_sum'), 'phase')} / ({once(by_name('latency_count'), 'phase')} > 0)",
                            "{{phase}}",
                        )
                    ],
                    says="Over all tasks that have succeeded.",
                ),
                Panel(
                    "95 of 100 tasks take less",
                    "s",
                    [
                        (
                            f"histogram_quantile(0.95, {once(by_name('latency_bucket'), 'phase', 'le')})",
                            "{{phase}}",
                        )
                    ],
                ),
                Panel(
                    "Degradation",
                    "short",
                    [(once("agent_forge_degradation_ratio", "phase", "profile"), "{{phase}} {{profile}}")],
                    says="The last ten to those before; an alert from 1.5 on.",
                ),
            ],
        ),
        (
            "Work",
            [
                Panel(
                    "Tasks that succeeded",
                    "short",
                    [(once("agent_forge_executions_total", "phase"), "{{phase}}")],
                ),
                Panel("Failed attempts", "short", [(once(by_name("errors_total"), "phase"), "{{phase}}")]),
                Panel("Retries", "short", [(once("agent_forge_retries_total", "phase"), "{{phase}}")]),
                Panel(
                    "Failed at a gate",
                    "short",
                    [(once("agent_forge_gate_failures_total", "phase"), "{{phase}}")],
                ),
                Panel(
                    "Gates of what was published",
                    "short",
                    [(once("agent_forge_gates_total", "phase", "result"), "{{phase}} {{result}}")],
                ),
            ],
        ),
    ],
)

TRAINING = Board(
    "training",
    "training telemetry",
    [
        (
            "Training, stage by stage",
            [
                of_run("Success rate", "percentunit", "training", ".+: success"),
                of_run("Loss", "short", "training", ".+: loss"),
                of_run("Loss while dreaming", "short", "training", ".*dreaming.*: loss"),
            ],
        ),
        (
            "What it came to",
            [
                of_run("Intrinsic dimension (ID/d)", "short", "training", "intrinsic_dimension", "{{run}}"),
                of_run("Share within 55–75 %", "percentunit", "training", "share_in_band", "{{run}}"),
                of_run("Stages that were kept", "short", "training", "stages_kept", "{{run}}"),
            ],
        ),
        (
            "The phases around it",
            [
                of_run("Cognate: loss", "short", "cognate", ".+: loss"),
                of_run("Quiet-STaR: reward", "short", "quietstar", ".+: reward", "{{run}}"),
                of_run("BitNet: λ", "short", "bitnet", ".+: quantisation_strength", "{{run}}"),
                of_run("Baking: KL", "short", "baking", ".+: kl"),
            ],
        ),
    ],
    by_run=True,
)

EVOLUTION = Board(
    "evolution",
    "evolution",
    [
        (
            "EvoMerge",
            [
                of_run("Fitness, island by island", "short", "evomerge", ".+: fitness"),
                of_run("The champion", "short", "evomerge", "fitness|fitness_select|fitness_generation_zero"),
                of_run("Evaluations", "short", "evomerge", "evaluations|failures"),
            ],
        ),
        (
            "ADAS",
            [
                of_run("The best design", "short", "adas", "search: best", "{{run}}"),
                of_run("Designs and generations", "short", "adas", "designs|generations"),
                of_run("Found, by hand, default", "short", "adas", "report|report_by_hand|report_default"),
            ],
        ),
    ],
    by_run=True,
)

COMPRESSION = Board(
    "compression",
    "compression",
    [
        (
            "BitNet",
            [
                of_run("Loss before and after", "short", "bitnet", "loss_before|loss_after"),
                of_run("Bits a parameter", "short", "bitnet", "bits_per_parameter", "{{run}}"),
                of_run(
                    "Tokens a second", "short", "bitnet", "tokens_per_second_before|tokens_per_second_after"
                ),
            ],
        ),
        (
            "Compression",
            [
                of_run("Retention", "percentunit", "compression", "(.+: )?retention"),
                of_run("Bytes", "bytes", "compression", "(.+: )?bytes"),
                of_run("Times smaller", "short", "compression", "times_smaller", "{{run}}"),
                of_run("KL of the recovery", "short", "compression", "recover: kl|kl_coded|kl_recovered"),
            ],
        ),
    ],
    by_run=True,
)

API = Board(
    "api",
    "API",
    [
        (
            "Requests",
            [
                Panel("Requests a second", "reqps", [(f"sum by (route) ({REQUESTS})", "{{route}}")]),
                Panel("Answers by status", "reqps", [(f"sum by (status) ({REQUESTS})", "{{status}}")]),
                Panel(
                    "95 of 100 answers begin within",
                    "s",
                    [(f"histogram_quantile(0.95, sum by (le, route) ({LATENCY}))", "{{route}}")],
                    says="Without the routes that wait for events.",
                ),
            ],
        ),
        (
            "Live",
            [
                Panel(
                    "Open WebSockets",
                    "short",
                    [("sum(agent_forge_websockets)", "all"), ("agent_forge_websockets", "{{instance}}")],
                ),
                Panel(
                    "From an event to its being readable",
                    "s",
                    [(f"histogram_quantile(0.99, sum by (le) ({LAG}))", "99 of 100")],
                ),
                Panel(
                    "Tokens of the playground a second",
                    "short",
                    [(f"{TOKENS} / {TOKEN_SECONDS}", "")],
                ),
            ],
        ),
        (
            "Caches and stores",
            [
                Panel("Hits of the caches", "percentunit", [(f"{HITS} / ({HITS} + {MISSES})", "all layers")]),
                Panel(
                    "Does it answer",
                    "bool_yes_no",
                    [("min by (dependency) (agent_forge_up)", "{{dependency}}")],
                ),
                Panel(
                    "Errors of stores",
                    "short",
                    [
                        ("sum by (store) (agent_forge_store_errors_total)", "{{store}}"),
                        ("sum by (layer) (agent_forge_cache_errors_total)", "cache: {{layer}}"),
                    ],
                ),
            ],
        ),
    ],
)

RESOURCES = Board(
    "resources",
    "resources",
    [
        (
            "Machines",
            [
                Panel("Memory", "percentunit", [("agent_forge_memory_usage", "{{instance}}")]),
                Panel("Processor", "percentunit", [("agent_forge_cpu_usage", "{{instance}}")]),
                Panel("Disk of the runs", "percentunit", [("agent_forge_disk_usage", "{{instance}}")]),
                Panel("Free there", "bytes", [("agent_forge_disk_free_bytes", "{{instance}}")]),
            ],
        ),
        (
            "GPUs",
            [
                Panel("At work", "percentunit", [("agent_forge_gpu_usage", "{{instance}} {{gpu}}")]),
                Panel("Memory", "percentunit", [("agent_forge_gpu_memory_usage", "{{instance}} {{gpu}}")]),
            ],
        ),
    ],
)

BOARDS = (PIPELINE, PHASE, TRAINING, EVOLUTION, COMPRESSION, API, RESOURCES)
