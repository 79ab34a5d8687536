"""`forge evaluate`: how good a model is, beside its baselines, and what to do next."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..options import AsJson, Runs, console, say

if TYPE_CHECKING:
    from components.shared.assessment.assessment import Kind
    from components.shared.assessment.subject import Subject
    from components.shared.evaluation.pass_at_k import Sampling


def evaluate(
    *,
    source: Annotated[
        str, typer.Argument(metavar="[RUN|MODEL]", help="A run's last model, or a model's folder or address.")
    ] = "latest",
    suites: Annotated[
        list[str],
        typer.Option(
            "--suite", metavar="NAME|arc|file:PATH", help="A suite, ARC, or a file of tasks; repeatable (default: five).",
            default_factory=list, show_default=False,
        ),
    ],
    against: Annotated[
        str, typer.Option(metavar="RUN|MODEL", help="Another model: differences on the same items.")
    ] = "",
    limit: Annotated[
        int | None, typer.Option(min=2, help="Items of each suite (default: as many as its run asked, else 128).")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Of the items (default: its run's, else 0).")] = None,
    shots: Annotated[
        int | None,
        typer.Option(
            min=0, max=64, metavar="N",
            help="Training items in front of each question (default: its run's evaluation.shots, else none, and 4 for a"
            " model that does not read bytes).",
        ),
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Items in one forward pass.")] = 64,
    page: Annotated[Path | None, typer.Option(metavar="FILE.html", help="Write it as a page, too.")] = None,
    again: Annotated[bool, typer.Option("--again", help="Measure what the cache has, too.")] = False,
    runs: Runs = Path("runs"),
    samples: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Of files of code: programs that are sampled for each problem, for pass@k."),
    ] = None,
    ks: Annotated[str, typer.Option("--k", metavar="K,K,…", help="The k of pass@k; the first is the score.")] = "1",
    temperature: Annotated[float, typer.Option(min=0.0, help="Of the samples.")] = 0.8,
    think: Annotated[
        bool,
        typer.Option("--think", help="Let a model with a talk head think before every token (--against: it does not)."),
    ] = False,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Scores with intervals, an overall score, baselines, differences on the same items, and what follows from them.

    \b
    forge evaluate demo
    forge evaluate ./SmolLM2-135M-Instruct --suite file:gsm8k.jsonl --limit 200 --shots 5
    forge evaluate demo --against ./other --json
    forge evaluate ./SmolLM2-135M --suite file:HumanEval.jsonl.gz --samples 10 --k 1,10 --temperature 0.8

    The overall score is the unweighted mean of the suites' scores, each corrected for guessing: 0 is guessing, 100 is all
    right. A model of a run is seen beside the one before its phase and the one that the run began with. What was measured
    before of the same model is taken from the cache in the folder of runs.
    """
    import json

    from components.shared.assessment.measure import assess
    from components.shared.assessment.score_cache import ScoreCache
    from components.shared.evaluation.suites import SUITES
    from components.shared.runtime.config.settings import SEEDS
    from components.shared.runtime.store.uri import open_store
    from components.shared.runtime.tracking.progress import Progress

    from ... import texts
    from ...report import assessed, formatting
    from ..rendering.assessment import table

    subject, others = _subject(runs, source)
    asked = subject.manifest.config.get("evaluation", {})
    asks = [texts.whole_name(suite) for suite in suites or asked.get("suites") or SUITES]
    progress = Progress("evaluate")
    found = assess(
        subject.thinking() if think else subject,
        asks,
        items=limit or asked.get("items") or 128,
        seed=subject.manifest.seed if seed is None else seed,
        seeds=asked.get("seeds", SEEDS),
        shots=asked.get("shots") if shots is None else shots,
        sampling=_sampling(samples, ks, temperature),
        against=_subject(runs, against)[0] if against else None,
        relatives=others,
        batch=batch,
        cache=ScoreCache(open_store(str(runs)), progress.note, reads=not again),
        progress=progress,
    )
    if page is not None:
        assessed.write(page, found)
    if as_json:
        typer.echo(json.dumps(found.as_dict(), indent=1))
        return
    console.print(table(found))
    for suite, score in found.scores.items():
        if words := formatting.beside(score):
            say(f"{suite}: {words}")
    for each in found.recommendations:
        say(f"- {each.finding}: {each.advice}")
    if page is not None:
        say(f"page: {page}")


def _sampling(samples: int | None, ks: str, temperature: float) -> Sampling | None:
    """What the options ask for; None where no samples are wanted."""
    from components.shared.evaluation.pass_at_k import Sampling
    from components.shared.runtime.errors import ConfigError

    if samples is None and (ks, temperature) != ("1", 0.8):
        raise ConfigError(
            "--k and --temperature are of samples", where="--samples", fix="give --samples N, too"
        )
    try:
        return None if samples is None else Sampling(samples, tuple(map(int, ks.split(","))), temperature)
    except ValueError as error:
        raise ConfigError("k is a list of numbers", where=f"--k {ks}", fix="write --k 1,10") from error


def _subject(runs: Path, source: str) -> tuple[Subject, dict[Kind, Subject]]:
    """A model that was named, and those of its run that it comes from."""
    from dataclasses import asdict

    from components.shared.assessment.subject import Subject
    from components.shared.runtime.artifact.manifest import MANIFEST, decode

    from ...generate import model_folder
    from ...runs.relatives import label_of, relatives_of

    folder = model_folder(runs, source)
    others: dict[Kind, Subject] = {}
    for kind, place in relatives_of(folder).items():
        manifest = decode((place / MANIFEST).read_bytes(), str(place))
        others[kind] = Subject(label_of(asdict(manifest)), place, manifest)
    return Subject.at(folder, source), others
