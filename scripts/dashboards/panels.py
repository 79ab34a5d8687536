"""What a dashboard is made of: rows of charts and numbers, each with its queries; and Grafana's JSON of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import LegendDisplayMode, LegendPlacement, TooltipDisplayMode
from grafana_foundation_sdk.models.dashboard import DataSourceRef

WIDTH = 24


@dataclass(frozen=True)
class Panel:
    """A chart over time, or with `number` its last value.

    :param queries: (PromQL, legend) each.
    """

    title: str
    unit: str
    queries: Sequence[tuple[str, str]]
    number: bool = False
    says: str = ""


@dataclass(frozen=True)
class Board:
    """A dashboard.

    :param rows: (title, its panels) each.
    :param by_run: it has a menu of runs, `$run` in its queries.
    """

    name: str
    title: str
    rows: Sequence[tuple[str, Sequence[Panel]]]
    by_run: bool = False


def to_json(board: Board) -> str:
    """What Grafana imports."""
    built = (
        dashboard.Dashboard(f"Agent Forge: {board.title}")
        .uid(f"agent-forge-{board.name}")
        .tags(["agent-forge"])
        .refresh("30s")
        .time("now-6h", "now")
        .with_variable(dashboard.DatasourceVariable("source").type("prometheus").label("Prometheus"))
    )
    if board.by_run:
        built = built.with_variable(
            dashboard.QueryVariable("run")
            .label("Run")
            .datasource(DataSourceRef("prometheus", "${source}"))
            .query("label_values(agent_forge_metric, run)")
            .multi(True)
            .include_all(True)
        )
    for title, panels in board.rows:
        built = built.with_row(dashboard.Row(title))
        for panel in panels:
            built = built.with_panel(_panel(panel, max(4, WIDTH // len(panels))))
    return JSONEncoder(sort_keys=True, indent=1).encode(built.build()) + "\n"


def _panel(panel: Panel, width: int):
    if panel.number:
        built = stat.Panel().reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    else:
        legend = common.VizLegendOptions().placement(LegendPlacement.BOTTOM).show_legend(True)
        built = (
            timeseries.Panel()
            .legend(legend.display_mode(LegendDisplayMode.LIST))
            .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI))
        )
    built = (
        built.title(panel.title)
        .description(panel.says)
        .unit(panel.unit)
        .span(width)
        .height(4 if panel.number else 8)
    )
    built = built.datasource(DataSourceRef("prometheus", "${source}"))
    for letter, (query, legend) in zip("ABCDEFGH", panel.queries, strict=False):
        built = built.with_target(prometheus.Dataquery().ref_id(letter).expr(query).legend_format(legend))
    return built
