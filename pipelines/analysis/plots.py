"""Curves as one SVG: a panel for what belongs together, in the style of the report."""

from __future__ import annotations

import html
import io
import math
from collections.abc import Callable, Sequence
from pathlib import Path

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from components.shared.runtime.atomic import write_atomically
from components.shared.runtime.errors import ConfigError, InputError

from ..report.plots import PALETTE, STYLE
from .measurements import Series

COLUMNS = 2
PANEL = (4.8, 2.7)
"""Width and height of a panel, in inches."""
MOST_PANELS = 120

Panel = tuple[str, Callable[[Axes], None]]
"""A title, and what draws below it."""


def grid(panels: Sequence[Panel]) -> str:
    """The panels side by side as one SVG."""
    rows = math.ceil(len(panels) / COLUMNS)
    with rc_context(STYLE):
        figure = Figure(figsize=(COLUMNS * PANEL[0], rows * PANEL[1]), layout="constrained")
        axes = figure.subplots(rows, COLUMNS, squeeze=False).ravel()
        for ax, (title, draw) in zip(axes, panels, strict=False):
            draw(ax)
            ax.set_title(title, fontsize=10, loc="left")
        for ax in axes[len(panels) :]:
            ax.set_visible(False)
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    return out.getvalue()[out.getvalue().index("<svg") :]


def panels_of(series: Sequence[Series]) -> list[Panel]:
    """A panel for each group of each task, and for each series that stands alone; single values are left out.

    :raises InputError: there is no curve among them, or there are too many for one picture.
    """
    groups: dict[tuple[str, str], list[Series]] = {}
    for measured in series:
        if len(measured.values) > 1:
            groups.setdefault((measured.task, measured.group or measured.name), []).append(measured)
    if not groups:
        raise InputError(
            "there is no curve to draw", why="each of these was measured once", fix="leave --plot out"
        )
    if len(groups) > MOST_PANELS:
        raise InputError(
            f"{len(groups)} curves do not fit into one picture",
            fix="choose some: --task TASK, --name PATTERN",
        )
    return [(f"{task} · {title}", _lines(together, title)) for (task, title), together in groups.items()]


def _lines(together: Sequence[Series], title: str) -> Callable[[Axes], None]:
    def draw(ax: Axes) -> None:
        for number, measured in enumerate(together):
            colour = PALETTE[number % len(PALETTE)]
            label = measured.name.removeprefix(f"{title}: ")
            ax.plot(measured.steps, measured.values, lw=1.4, color=colour, label=label)
        ax.set_xlabel(together[0].xlabel)
        ax.set_ylabel(together[0].ylabel)
        if len(together) > 1:
            ax.legend(fontsize=8)

    return draw


def check_file(path: Path) -> None:
    """Refuse a name that says another format, before anything is computed.

    :raises ConfigError: its ending is neither .svg nor .html.
    """
    if path.suffix not in (".svg", ".html"):
        raise ConfigError(
            f"a plot is not written as {path.suffix or 'a file without ending'}",
            where=f"--plot {path}",
            fix="name it .svg or .html",
        )


def write(path: Path, svg: str, title: str, text: str = "") -> None:
    """Write the picture: as it is, or as a page with what the terminal shows below it.

    :param text: preformatted, for the page only.
    :raises ConfigError: the ending of the name is neither .svg nor .html.
    """
    check_file(path)
    if path.suffix == ".html":
        head = f'<!doctype html><meta charset="utf-8"><title>{html.escape(title)}</title>'
        style = (
            "<style>body{font-family:sans-serif;margin:2em;color-scheme:light dark}pre{overflow:auto}</style>"
        )
        svg = f"{head}{style}<h1>{html.escape(title)}</h1>\n{svg}\n<pre>{html.escape(text)}</pre>\n"
    write_atomically(path, svg)
