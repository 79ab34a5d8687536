"""An assessment as a table in the terminal: a row a suite, a column a baseline."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from components.shared.assessment.assessment import MEANING, Assessment
from components.shared.evaluation.paired import OVERALL, Difference
from components.shared.runtime.wording import count, size

from ...report import formatting


def table(found: Assessment) -> Table:
    """Scores in percent with their intervals, and differences in points, bold where the interval excludes zero."""
    model = found.model
    extent = f"{count(model['parameters'])} parameters · {size(model['bytes'])}"
    out = Table(
        title=f"{model['name']} · {extent} · {model['digest'][:12]}",
        title_style="bold",
        header_style="bold",
        pad_edge=False,
    )
    out.add_column("suite")
    for heading in ("score", "items", "chance"):
        out.add_column(heading, justify="right", no_wrap=True)
    beside = [baseline for baseline in found.baselines if baseline.kind != "chance"]
    for baseline in beside:
        out.add_column(f"over {baseline.label}", justify="right")
    for suite, score in found.scores.items():
        style = "" if formatting.clear_of_chance(score) else "dim"
        chance = f"{100 * score['chance']:.0f}"
        cells = [_difference(baseline.differences.get(suite)) for baseline in beside]
        out.add_row(suite, Text(formatting.score(score), style=style), str(score["n"]), chance, *cells)
    if found.overall:
        out.add_section()
        cells = [_difference(baseline.differences.get(OVERALL)) for baseline in beside]
        items = str(sum(score["n"] for score in found.scores.values()))
        out.add_row(
            Text(OVERALL, style="bold"),
            Text(formatting.score(found.overall._asdict()), style="bold"),
            items,
            "0",
            *cells,
        )
    labels = "; ".join(f"{b.label}: {MEANING[b.kind]}" for b in beside if b.label != MEANING[b.kind])
    out.caption = (
        "percent, with 95% intervals; overall: unweighted mean of the suites, each corrected for chance · differences in "
        f"points over the same items{' · ' if labels else ''}{labels}"
    )
    return out


def _difference(difference: Difference | None) -> Text:
    if difference is None:
        return Text("–", style="dim")
    return Text(formatting.difference(difference), style="bold" if difference.clear else "dim")
