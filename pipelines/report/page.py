"""The report as one HTML file: no script, no network, light and dark."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from markupsafe import Markup

from components.shared.assessment.assessment import MEANING
from components.shared.evaluation.paired import OVERALL
from components.shared.runtime.atomic import write_atomically

from . import assessed, merging, plots
from .formatting import environment
from .records import Run, Task, read


def write(folder: Path) -> Path:
    """Write `report.html` into the run's folder and return its path; InputError where there is no run."""
    page = folder / "report.html"
    write_atomically(page, render(read(folder)))
    return page


def render(run: Run) -> str:
    """The page of a run, as HTML."""
    return environment().get_template("report.html.j2").render(_content(run))


def _content(run: Run) -> dict[str, Any]:
    final = run.final.manifest if run.final else {}
    before = run.cognate_fp32_bytes
    seconds = (run.info.get("finished") or 0) - (run.info.get("started") or 0)
    pictures: dict[str, Markup] = {}
    if any(t.manifest["scores"] for _, t in run.models):
        pictures["scores"] = Markup(plots.scores_through_the_pipeline(run))
        pictures["plane"] = Markup(plots.size_against_quality(run))
    generations = next((g for _, g in run.phases[1].extras("population") if g), None)
    if generations:
        pictures["population"] = Markup(plots.population(generations))
    pictures |= _merge(run)
    assessments = assessed.Assessments(run)
    if len(assessments.all) > 1:
        pictures["overall"] = assessed.picture(assessments.all)
    pictures["time"] = Markup(plots.time_and_memory(run))
    return {
        "run": run,
        "suites": run.suites,
        "assessed_models": assessments.all,
        "assessment": assessments.final,
        "costly": assessments.costly,
        "MEANING": MEANING,
        "OVERALL": OVERALL,
        "final": final,
        "ratio": final["bytes"] / before if final and before else None,
        "before": before,
        "seconds": max(seconds, 0.0),
        "peak": max((p.peak_memory_bytes for p in run.phases), default=0),
        "held": sum(bool(c.get("holds")) for _, c in run.controls),
        "passed": sum(bool(g["passed"]) for _, g in run.gates),
        "stand_ins": [(p, t, found) for p in run.phases for t, found in p.extras("stand_ins")],
        "courses": [(p, t, course) for p in run.phases for t, course in p.extras("course")],
        "pictures": pictures,
        "claims": _claims(run),
        "idle": merging.idle(run.phases[1]),
        "curves": _curves(run),
        "samples": final["extra"].get("samples", []) if final else [],
        "lineage": _lineage(run),
        "settings": _settings(run),
        "pretty": lambda value: json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False),
    }


def _merge(run: Run) -> dict[str, Markup]:
    """The Pareto front of the search and the champion's recipe, where phase evomerge published a model."""
    pictures: dict[str, Markup] = {}
    for task in run.phases[1].models:
        extra = task.manifest["extra"]
        if front := extra.get("pareto"):
            pictures["front"] = Markup(merging.front(front, extra["champion"]["genome"]))
        if shares := extra.get("shares"):
            pictures["shares"] = Markup(merging.weights(shares))
    return pictures


def _claims(run: Run) -> list[tuple[str, Markup]]:
    """(unit, picture) of the claims: those of one unit share an axis, the others must not."""
    units: dict[str, list[tuple[str, dict[str, Any]]]] = {}
    for phase, claim in run.controls:
        units.setdefault(claim["unit"], []).append((phase.name, claim))
    return [(unit, Markup(plots.controls(rows))) for unit, rows in units.items()]


def _curves(run: Run) -> list[tuple[str, str, Markup]]:
    """(phase, title, picture) of every training curve that the phases left."""
    return [
        (
            f"{phase.name} · {task.label}" if len(phase.models) > 1 else phase.name,
            title,
            Markup(plots.curve(spec)),
        )
        for phase in run.phases
        for task, curves in phase.extras("curves")
        for title, spec in curves.items()
    ]


def _lineage(run: Run) -> list[dict[str, Any]]:
    """A row for each artifact: what made it, from which parents, its digest, its size."""
    names = {t.manifest["digest"]: t.label for p in run.phases for t in p.tasks if t.manifest}
    rows = []
    for phase in run.phases:
        for task in phase.tasks:
            if task.manifest:
                parents = [(names.get(d, "given"), d) for d in task.manifest["parents"]]
                rows.append(
                    {"phase": phase.name, "label": task.label, "manifest": task.manifest, "parents": parents}
                )
    return rows


def _settings(run: Run) -> list[tuple[str, dict[str, Any]]]:
    """The composed configuration of each phase, from the last manifest that it wrote."""
    chosen: dict[str, Task] = {p.name: t for p in run.phases for t in p.tasks if t.manifest}
    return [(name, task.manifest["config"]) for name, task in chosen.items()]
