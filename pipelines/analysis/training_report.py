"""How a training went: its trajectory, and of phase training each of the ten stages.

All names under which phase training writes what it measured stand here, in two classes, and nowhere else: `Written` for
its manifest, `Kept` for the state in its checkpoints.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from components.shared.runtime.artifact.manifest import Manifest

PHASE = "training"
EDGE = "edge_of_chaos"
"""The kind of the stages whose difficulty is chosen so that the success rate stays in a band."""


class Written:
    """Names in the manifest's `extra`."""

    STAGES = "stages"
    REGIME = "regime"
    CURVES = "curves"
    LOSS = ("loss through the ten stages", "train")
    SUCCESS = ("success rate", "fresh items")


class Kept:
    """Names in the state of a checkpoint."""

    STAGE, WITHIN, RATES, RESULTS = "stage", "within", "rates", "results"
    LOSS, SUCCESS = "loss", "success"
    LOSS_BEFORE = "start"


class Result:
    """Names in the result of a stage, in both."""

    NAME, KIND, KEPT, STEPS = "stage", "kind", "kept", "steps"
    BEFORE, AFTER = "held_out_loss_before", "held_out_loss_after"
    TRAIN_BEFORE, TRAIN_AFTER = "train_loss_before", "train_loss_after"
    REGIME, DIMENSION, SHARE = "regime", "intrinsic_dimension", "intrinsic_dimension_share"
    SPREAD, RATE, STRENGTH = "weight_spread", "learning_rate", "grokfast_lambda"


@dataclass
class StageReport:
    """One stage of phase training.

    :param number: from 1 on.
    :param state: done, running (or stopped within it), pending.
    :param kept: whether it stood; False where it was undone; None before its end.
    :param loss_before: held-out loss, nats a token; `train_loss_before` is that on items like those that are trained on.
    :param success: mean share of right answers to fresh items; None where nothing says it.
    :param in_band: share of the measured points whose success lies in the band, of stages at the edge of chaos.
    :param dimension: intrinsic dimension (TwoNN) of the last hidden state where answers begin.
    :param dimension_share: ID/d, over the hidden size.
    :param strength: Grokfast's λ; 0 where it is off, None where nothing says it.
    """

    number: int
    name: str
    kind: str = ""
    state: str = "pending"
    steps: int = 0
    steps_done: int = 0
    kept: bool | None = None
    loss_before: float | None = None
    loss_after: float | None = None
    train_loss_before: float | None = None
    train_loss_after: float | None = None
    success: float | None = None
    in_band: float | None = None
    regime: str | None = None
    dimension: float | None = None
    dimension_share: float | None = None
    weight_spread: float | None = None
    learning_rate: float | None = None
    strength: float | None = None


@dataclass
class TrainingReport:
    """How a training went.

    :param source: the artifact or the checkpoint that says it.
    :param kind: artifact or checkpoint.
    :param regime: the diagnosis that held twice in a row last; None before any did.
    :param grokfast: {"alpha", "strength"}, {} where it is off; None where nothing says it.
    :param band: lowest and highest success rate that the edge of chaos aims at.
    :param rates: of a checkpoint: "task level" → running success rate.
    :param curves: title → {"x", "xlabel", "ylabel", "series": {name: values}}.
    :param metrics: of the manifest.
    """

    source: str
    kind: str
    phase: str
    run: str = ""
    regime: str | None = None
    grokfast: dict[str, Any] | None = None
    band: tuple[float, float] | None = None
    stages: list[StageReport] = field(default_factory=list)
    rates: dict[str, float] = field(default_factory=dict)
    curves: dict[str, dict[str, Any]] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return dataclasses.asdict(self)


def from_manifest(manifest: Manifest, source: str) -> TrainingReport:
    """The report of a training that has published its artifact; of another phase than training, without stages."""
    extra, settings = manifest.extra, manifest.config.get(manifest.phase, {})
    report = TrainingReport(
        source, "artifact", manifest.phase, curves=dict(extra.get(Written.CURVES, {})), metrics=dict(manifest.metrics),
        grokfast=_grokfast(settings), band=_band(settings),
    )  # fmt: skip
    stages = extra.get(Written.STAGES, [])
    if manifest.phase != PHASE or not all(Result.STEPS in stage for stage in stages):
        return report  # of an earlier version, whose stages said less
    report.regime = extra.get(Written.REGIME)
    success = list(_points(report.curves, *Written.SUCCESS))
    done = 0
    for number, result in enumerate(stages, 1):
        last = done + result[Result.STEPS]
        shares = [value for step, value in success if done < step <= last]
        report.stages.append(_ended(number, result, shares, report.band))
        done = last
    return report


def from_checkpoint(
    state: Mapping[str, Any], source: str, *, phase: str = PHASE, settings: Mapping[str, Any] | None = None
) -> TrainingReport:
    """The report of a training as far as one of its checkpoints knows it.

    :param state: the checkpoint's state, plain JSON.
    :param settings: of the phase, where they are known: they name the stages to come, the band and λ.
    """
    known = settings or {}
    report = TrainingReport(source, "checkpoint", phase, grokfast=_grokfast(known), band=_band(known))
    if phase != PHASE or Kept.RESULTS not in state or Kept.STAGE not in state:
        report.curves = dict(_histories(state))
        return report
    from components.training.diagnosis import settled

    results, planned = state[Kept.RESULTS], known.get("stages", [])
    report.rates = dict(state.get(Kept.RATES, {}))
    for number, result in enumerate(results, 1):
        report.stages.append(_ended(number, result, result[Kept.SUCCESS], report.band))
    strength = None if report.grokfast is None else float(report.grokfast.get("strength", 0.0))
    for number, stage in enumerate(planned[len(results) :], len(results) + 1):
        report.stages.append(
            StageReport(number, stage["name"], stage["kind"], steps=int(stage["steps"]), strength=strength)
        )
    if state[Kept.WITHIN]:
        if len(report.stages) == len(results):
            report.stages.append(
                StageReport(len(results) + 1, f"stage {len(results) + 1}", strength=strength)
            )
        current = report.stages[len(results)]
        current.state, current.steps_done = "running", int(state[Kept.WITHIN])
        current.loss_before = state.get(Kept.LOSS_BEFORE)
        _succeed(current, state[Kept.SUCCESS], report.band)
    report.regime = settled([result[Result.REGIME] for result in results])
    report.curves = _curves([*results, state] if state[Kept.WITHIN] else results)
    return report


def _ended(
    number: int, result: Mapping[str, Any], shares: Sequence[float], band: tuple[float, float] | None
) -> StageReport:
    """A stage that has ended, from its result and the success rates within it."""
    stage = StageReport(
        number, result[Result.NAME], result[Result.KIND], "done", result[Result.STEPS], result[Result.STEPS],
        bool(result[Result.KEPT]), result[Result.BEFORE], result[Result.AFTER], result[Result.TRAIN_BEFORE],
        result[Result.TRAIN_AFTER], regime=result[Result.REGIME], dimension=result[Result.DIMENSION],
        dimension_share=result[Result.SHARE], weight_spread=result[Result.SPREAD], learning_rate=result[Result.RATE],
        strength=result[Result.STRENGTH],
    )  # fmt: skip
    _succeed(stage, shares, band)
    return stage


def _succeed(stage: StageReport, shares: Sequence[float], band: tuple[float, float] | None) -> None:
    if shares:
        stage.success = sum(shares) / len(shares)
        if stage.kind == EDGE and band:
            stage.in_band = sum(band[0] <= share <= band[1] for share in shares) / len(shares)


def _grokfast(settings: Mapping[str, Any]) -> dict[str, Any] | None:
    return dict(settings["grokfast"] or {}) if "grokfast" in settings else None


def _band(settings: Mapping[str, Any]) -> tuple[float, float] | None:
    band = settings.get("band")
    return (float(band["low"]), float(band["high"])) if band else None


def _points(curves: Mapping[str, Mapping[str, Any]], title: str, name: str) -> Iterator[tuple[float, float]]:
    """(x, y) of one series of one curve; none where it is not there."""
    spec = curves.get(title, {})
    for x, y in zip(spec.get("x", []), spec.get("series", {}).get(name, []), strict=False):
        if y is not None:
            yield float(x), float(y)


def _curves(results: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Loss and success of every step so far, called as in the manifest of a training that is done."""
    curves = {}
    for (title, name), key, unit in (
        (Written.LOSS, Kept.LOSS, "nats a token"),
        (Written.SUCCESS, Kept.SUCCESS, "share right"),
    ):
        values = [value for result in results for value in result[key]]
        if values:
            steps = list(range(1, len(values) + 1))
            curves[title] = {"x": steps, "xlabel": "step", "ylabel": unit, "series": {name: values}}
    return curves


def _histories(value: Any, name: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every list of two numbers or more in a state, as a curve called by its place in it."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if not key.startswith("__"):  # the snapshot: weights, optimisers, generators
                yield from _histories(inner, f"{name}/{key}" if name else key)
    elif isinstance(value, list) and len(value) > 1 and all(type(number) in (int, float) for number in value):
        yield (
            name,
            {"x": list(range(1, len(value) + 1)), "xlabel": "entry", "ylabel": "", "series": {name: value}},
        )
