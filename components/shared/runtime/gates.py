"""Whether a phase's result is good enough to be published, and what is published where it is not."""

from __future__ import annotations

import dataclasses
import math
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

from . import measured, start
from .artifact.artifact import Artifact
from .config import gate
from .config.settings import Config
from .errors import ConfigError, GateFailed, PhaseFailed
from .measured import STAND_INS
from .phase import Run
from .wording import did_you_mean

BEFORE, START = "input/", "start/"


def check_before(config: Config[Any], inputs: Mapping[str, Sequence[Artifact]]) -> None:
    """Refuse, before any work, a gate that asks for what there is not: an input to roll back to, a figure of a model.

    :raises ConfigError: a gate has on_fail: rollback, and the input is not exactly one model; or it names something of the
        input or of the pipeline's start that was not measured of it.
    """
    where = f"{config.phase}.gates"
    metrics = [each.metric for each in config.settings.gates if each.on_fail == "rollback"]
    if metrics and len(inputs.get("input_model", [])) != 1:
        raise ConfigError(
            f"the gate on {metrics[0]!r} would roll back to the input model, and there is not exactly one",
            where=where,
            fix="use on_fail: stop or warn",
        )
    known = _before(inputs)
    for name in (name for each in config.settings.gates for name in each.names):
        if not name.startswith((BEFORE, START)) or name in known:
            continue
        prefix, model = (
            (START, "the pipeline's first model") if name.startswith(START) else (BEFORE, "the input")
        )
        own = sorted(other for other in known if other.startswith(prefix))
        raise ConfigError(
            f"a gate asks for {name!r}, and there is no such figure of {model}",
            where=where,
            why=f"known: {', '.join(own)}" if own else f"{model} is not there, or none that is one model",
            fix=did_you_mean(name, own, none="leave the gate out where nothing comes before"),
        )


def check_gates(run: Run[Any], metrics: Mapping[str, float]) -> None:
    """Check the configured gates, note their results in `run.gates`, roll the output back where one says so.

    They are about models: a phase's steps that leave a trunk or a population are held against none of them.

    :raises PhaseFailed: a metric is not a finite number, or a gate asks for one that was not measured.
    :raises GateFailed: a gate with on_fail: stop does not hold.
    """
    for name, value in metrics.items():
        if not math.isfinite(value):
            fix = "the training diverged: lower the learning rate, or look at the curves"
            raise PhaseFailed(f"the metric {name!r} is {value}", where=run.config.phase, fix=fix)
    run.scores = {suite: _plain(score) for suite, score in run.scores.items()}
    judged = run.settings.gates if run.kind == "model" else []
    results = gate.check(judged, _measurements(run, metrics) if judged else {})
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
    """All that a gate may name: what is known of the output (measured.py), and of what came before it."""
    return {
        **measured.sizes_of_folder(run.output),
        **metrics,
        **measured.suites_of(run.scores),
        **measured.stand_ins_of(run.extra),
        **_before(run.inputs, run.extra.get(start.BASE_MEASURED, {})),
    }


def _before(
    inputs: Mapping[str, Sequence[Artifact]], of_base: Mapping[str, float] | None = None
) -> dict[str, float]:
    """What is known of the input behind `input/`, and of the pipeline's first model behind `start/`.

    :param of_base: what the phase itself has measured of the base model that was given.
    """
    values: dict[str, float] = {}
    if len(inputs.get("input_model", [])) == 1:
        [before] = inputs["input_model"]
        values |= {f"{BEFORE}{name}": value for name, value in measured.of_manifest(before.manifest).items()}
    first = start.of_inputs(inputs)
    known = {**(of_base or {}), **(first["measured"] if first else {})}
    return values | {f"{START}{name}": float(value) for name, value in known.items()}


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
