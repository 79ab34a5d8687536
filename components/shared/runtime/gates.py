"""Whether a phase's result is good enough to be published, and what is published where it is not."""

from __future__ import annotations

import dataclasses
import math
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

from .artifact.artifact import Artifact
from .config import gate
from .config.settings import Config
from .errors import ConfigError, GateFailed, PhaseFailed
from .phase import Run

STAND_INS = "stand_ins"
"""In a manifest's `extra`: what stands in for suites in a model's own language, as evaluation/report_split.py writes it."""


def check_rollback(config: Config[Any], inputs: Mapping[str, Sequence[Artifact]]) -> None:
    """Refuse, before any work, a gate that would roll back to an input that there is not.

    :raises ConfigError: a gate has on_fail: rollback, and the input is not exactly one model.
    """
    metrics = [gate.metric for gate in config.settings.gates if gate.on_fail == "rollback"]
    if metrics and len(inputs.get("input_model", [])) != 1:
        raise ConfigError(
            f"the gate on {metrics[0]!r} would roll back to the input model, and there is not exactly one",
            where=f"{config.phase}.gates",
            fix="use on_fail: stop or warn",
        )


def check_gates(run: Run[Any], metrics: Mapping[str, float]) -> None:
    """Check the configured gates, note their results in `run.gates`, roll the output back where one says so.

    :raises PhaseFailed: a metric is not a finite number, or a gate asks for one that was not measured.
    :raises GateFailed: a gate with on_fail: stop does not hold.
    """
    for name, value in metrics.items():
        if not math.isfinite(value):
            fix = "the training diverged: lower the learning rate, or look at the curves"
            raise PhaseFailed(f"the metric {name!r} is {value}", where=run.config.phase, fix=fix)
    run.scores = {suite: _plain(score) for suite, score in run.scores.items()}
    results = gate.check(run.settings.gates, _measurements(run, metrics))
    run.gates = [*run.gates, *results]
    failed = [result for result in results if not result["passed"]]
    for result in failed:
        run.progress.note(f"gate {gate.describe(result)}, on_fail: {result['on_fail']}")
    if any(result["on_fail"] == "stop" for result in failed):
        raise GateFailed(
            "a quality gate does not hold, nothing is published",
            where=f"{run.config.phase}.gates",
            why="; ".join(gate.describe(result) for result in failed if result["on_fail"] == "stop"),
            fix="train longer, or lower the gate if it asks too much; it goes on from its last checkpoint",
        )
    if any(result["on_fail"] == "rollback" for result in failed):
        _roll_back(run, metrics)
        run.progress.note("rolled back: the input model is published in place of the output")


def _measurements(run: Run[Any], metrics: Mapping[str, float]) -> dict[str, float]:
    """All that a gate may name: metrics, score/<suite>, stand_in/<name>, and all of the input behind input/."""
    values = {**metrics, **scores_of(run.scores), **stand_ins_of(run.extra)}
    if len(run.inputs.get("input_model", [])) == 1:
        before = run.artifact.manifest
        known = {**before.metrics, **scores_of(before.scores), **stand_ins_of(before.extra)}
        values |= {f"input/{name}": value for name, value in known.items()}
    return values


def scores_of(scores: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """The scores as metrics: `{"reasoning": {"score": 0.4, …}}` → `{"score/reasoning": 0.4}`."""
    return {f"score/{suite}": float(score["score"]) for suite, score in scores.items()}


def stand_ins_of(extra: Mapping[str, Any]) -> dict[str, float]:
    """What stands in for suites, as metrics: `stand_in/perplexity`, `stand_in/bits_per_byte`, `stand_in/chat`."""
    found = extra.get(STAND_INS, {})
    values = {name: found[name] for name in ("perplexity", "bits_per_byte") if name in found}
    if "chat" in found:
        values["chat"] = found["chat"]["score"]
    return {f"stand_in/{name}": float(value) for name, value in values.items()}


def _roll_back(run: Run[Any], metrics: Mapping[str, float]) -> None:
    source = run.artifact
    shutil.rmtree(run.output)
    run.output.mkdir()
    for name in source.manifest.files:
        (run.output / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source.path / name, run.output / name)
    run.kind = source.kind
    rejected = {"metrics": dict(metrics), "scores": run.scores, **_stand_ins(run.extra)}
    rest = {name: value for name, value in run.extra.items() if name != STAND_INS}
    run.extra = {**rest, **_stand_ins(source.manifest.extra), "rolled_back": True, "rejected": rejected}
    run.scores = source.manifest.scores


def _stand_ins(extra: Mapping[str, Any]) -> dict[str, Any]:
    return {STAND_INS: extra[STAND_INS]} if STAND_INS in extra else {}


def _plain(score: Any) -> dict[str, Any]:
    if dataclasses.is_dataclass(score) and not isinstance(score, type):
        return dataclasses.asdict(score)
    return dict(score)
