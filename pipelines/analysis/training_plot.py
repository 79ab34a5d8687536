"""A training as one picture: loss, held-out loss by stage, success, and intrinsic dimension over hidden size."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from components.shared.runtime.errors import InputError

from ..report.plots import BAD, GOOD, INK, PALETTE
from .measurements import drawn_curves
from .plots import Panel, grid, panels_of
from .training_report import EDGE, StageReport, TrainingReport, Written


def draw(report: TrainingReport) -> str:
    """The picture as SVG; of another phase than training, its curves.

    :raises InputError: there is no curve.
    """
    ended = [stage for stage in report.stages if stage.loss_after is not None]
    if not report.stages:
        return grid(panels_of(list(drawn_curves(report.run or report.phase, report.phase, report.curves))))
    panels: list[Panel] = []
    if Written.LOSS[0] in report.curves:
        panels.append(("loss of every step · undone stages are shaded", _through(report, *Written.LOSS)))
    if Written.SUCCESS[0] in report.curves:
        panels.append(("success rate · the band at the edge of chaos", _through(report, *Written.SUCCESS)))
    if ended:
        panels.append(
            ("held-out loss by stage · × undone · dotted: on training items", lambda ax: _losses(ax, ended))
        )
        panels.append(("ID/d by stage (TwoNN)", lambda ax: _geometry(ax, ended)))
    if any(stage.strength for stage in report.stages):
        panels.append(("Grokfast's λ", lambda ax: _strength(ax, report.stages)))
    if not panels:
        raise InputError(
            "there is nothing to draw yet", where=report.source, fix="wait for the end of a stage"
        )
    return grid(panels)


def _through(report: TrainingReport, title: str, name: str) -> Callable[[Axes], None]:
    """One curve over all steps, the stages marked below it."""

    def draw(ax: Axes) -> None:
        spec = report.curves[title]
        ax.plot(spec["x"], spec["series"][name], lw=1.2, color=PALETTE[0])
        first = 0
        for stage in report.stages:
            last = first + (stage.steps if stage.state == "done" else stage.steps_done)
            ax.axvline(last, lw=0.5, color=INK, alpha=0.4)
            if stage.kept is False:
                ax.axvspan(first, last, color=BAD, alpha=0.12, lw=0)
            if title == Written.SUCCESS[0] and stage.kind == EDGE and report.band:
                ax.fill_between([first, last], *report.band, color=GOOD, alpha=0.15, lw=0)
            first = last
        ax.set_xlabel(spec["xlabel"])
        ax.set_ylabel(spec["ylabel"])

    return draw


def _losses(ax: Axes, ended: Sequence[StageReport]) -> None:
    for stage in ended:
        colour = GOOD if stage.kept else BAD
        before, after = stage.loss_before or 0.0, stage.loss_after or 0.0
        ax.plot([stage.number - 1, stage.number], [before, after], "-", lw=1.4, color=colour)
        trained = [stage.train_loss_before or 0.0, stage.train_loss_after or 0.0]
        ax.plot([stage.number - 1, stage.number], trained, ":", lw=1.2, color=INK)
        ax.plot(stage.number, after, "o" if stage.kept else "x", ms=5, color=colour)
    ax.set_ylabel("nats a token")
    _stages(ax)


def _geometry(ax: Axes, ended: Sequence[StageReport]) -> None:
    values = [stage.dimension_share or 0.0 for stage in ended]
    ax.plot([stage.number for stage in ended], values, "-", lw=1, color=INK, alpha=0.5)
    for colour, regime in zip(PALETTE, dict.fromkeys(stage.regime for stage in ended), strict=False):
        points = [
            (stage.number, value)
            for stage, value in zip(ended, values, strict=True)
            if stage.regime == regime
        ]
        ax.plot(*zip(*points, strict=True), "o", ms=6, color=colour, label=regime)
    ax.legend(fontsize=8)
    _stages(ax)


def _strength(ax: Axes, stages: Sequence[StageReport]) -> None:
    known = [(stage.number, stage.strength) for stage in stages if stage.strength is not None]
    ax.step(
        [number for number, _ in known], [strength for _, strength in known], where="mid", color=PALETTE[1]
    )
    _stages(ax)


def _stages(ax: Axes) -> None:
    ax.set_xlabel("stage")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
