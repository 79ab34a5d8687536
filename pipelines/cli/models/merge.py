"""`forge merge`: one merge of whole models by one method, without a search."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from components.shared.merging.streaming.recipe import Recipe


def merge(
    *,
    output: Annotated[Path, typer.Option("--output", "-o", help="The merged model's folder: new, or empty.")],
    method: Annotated[str, typer.Option(help="One of those above.")] = "",
    model: Annotated[
        list[Path],
        typer.Option(
            "--model", "-m", help="A model's folder; two to ten.", default_factory=list, show_default=False
        ),
    ],
    base: Annotated[Path | None, typer.Option(help="What the models were trained from.")] = None,
    config: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A mergekit YAML, in place of the options of a recipe."),
    ] = None,
    weight: Annotated[
        list[float],
        typer.Option(
            help="A model's share: once for all, or once a model.", default_factory=list, show_default=False
        ),
    ],
    density: Annotated[
        list[float],
        typer.Option(
            help="What is kept of a task vector: ties, dare, della, breadcrumbs; once for all, or once a model.",
            default_factory=list,
            show_default=False,
        ),
    ],
    gamma: Annotated[
        float | None, typer.Option(help="breadcrumbs: the share of outliers that is dropped.")
    ] = None,
    epsilon: Annotated[float | None, typer.Option(help="della: half the window of probabilities.")] = None,
    scale: Annotated[
        float | None,
        typer.Option("--lambda", help="The length of the step away from the base; 1 is the step itself."),
    ] = None,
    topk: Annotated[float | None, typer.Option(help="sce: the share of entries that is selected.")] = None,
    add: Annotated[
        bool, typer.Option("--sum", help="Weights as they are: do not divide by their sum.")
    ] = False,
    trim: Annotated[
        str,
        typer.Option(
            help="ties: density of the whole model, as in the paper, or of each tensor: model, tensor."
        ),
    ] = "model",
    tokenizer: Annotated[
        str,
        typer.Option(help="Vocabularies that differ: same refuses them; base or union aligns them by token."),
    ] = "same",
    dtype: Annotated[
        str, typer.Option(help="bfloat16, float16, float32; by default the first model's.")
    ] = "",
    seed: Annotated[int, typer.Option(help="Of the random masks of dare and della.")] = 0,
    threads: Annotated[int, typer.Option(min=1, help="How many pieces are worked on at once.")] = 2,
) -> None:
    """Merge two to ten models of one architecture into one, by one method.

    \b
    forge merge --method linear --model A --model B --output C
    forge merge --method ties --model A --model B --base X --density 0.2 --lambda 1.2 -o C
    forge merge --method dare_ties -m A -m B --base X --weight 0.6 --weight 0.4 --density 0.5 -o C
    forge merge --config mergekit.yml -o C

    \b
    Which method?
      nothing to start from     linear; slerp, nuslerp or karcher keep the weights' length
      the base is at hand       task_arithmetic (one λ to choose), model_stock (nothing to choose)
      tasks that interfere      ties: small changes dropped, signs elected
                                dare_linear, dare_ties: changes dropped at random, the rest rescaled
                                della_linear, della: small changes dropped more often than large ones
                                breadcrumbs, breadcrumbs_ties: small changes and outliers dropped
                                sce: what differs most between the models decides
    A model is a folder with config.json and safetensors. Memory stays at a few hundred MB however large the models are.
    The output is a Hugging Face folder whose card holds the recipe; it appears when it is complete. Parents need one
    initialisation: others are merged with a warning, and are most likely good for nothing. To search for the recipe
    instead: forge phase evomerge --help
    """
    from components.shared.merging.streaming.merge import StaticMerge
    from components.shared.merging.streaming.mergekit_yaml import parse
    from components.shared.runtime.tracking.progress import Progress

    if config is not None:
        _alone(method=method, model=model, base=base, weight=weight, density=density, gamma=gamma, epsilon=epsilon,
               scale=scale, topk=topk, sum=add, dtype=dtype, trim=trim != "model",
               tokenizer=tokenizer != "same")  # fmt: skip
        recipe = parse(config, seed=seed)
    else:
        recipe = _recipe(
            method, model, base,
            own={"weight": weight, "density": density},
            common={"gamma": gamma, "epsilon": epsilon, "lambda": scale, "select_topk": topk,
                    "normalize": 0.0 if add else None},
            trim=trim, tokenizer=tokenizer, dtype=dtype, seed=seed,
        )  # fmt: skip
    progress = Progress("merge")
    job = StaticMerge(recipe, threads=threads)
    for note in job.notes:
        progress.note(f"warning: {note}")
    done = job.write(output, progress=progress)
    typer.echo(
        f"{output}: {done.parameters:,} parameters by {recipe.method} in {done.seconds + done.disk_seconds:.1f} s"
    )


def _alone(**given: object) -> None:
    from components.shared.runtime.errors import ConfigError

    if extra := [
        name for name, value in given.items() if not (value is None or value is False or value in ("", []))
    ]:
        raise ConfigError(
            "a configuration is the whole recipe",
            where=f"--{extra[0]}",
            fix="give --config without it, or write it there",
        )


def _recipe(
    method: str,
    models: list[Path],
    base: Path | None,
    *,
    own: dict[str, list[float]],
    common: dict[str, float | None],
    trim: str,
    tokenizer: str,
    dtype: str,
    seed: int,
) -> Recipe:
    from typing import Any

    from components.shared.merging.streaming.recipe import Entry, Recipe
    from components.shared.runtime.errors import ConfigError

    for name, value, allowed in (
        ("trim", trim, ("model", "tensor")),
        ("tokenizer", tokenizer, ("same", "base", "union")),
    ):
        if value not in allowed:
            raise ConfigError(f"--{name} is {value!r}", where=f"--{name}", fix=f"use {', '.join(allowed)}")
    settings: list[dict[str, Any]] = [{} for _ in models]
    for name, values in own.items():
        if len(values) not in (0, 1, len(models)):
            raise ConfigError(
                f"there are {len(values)} of --{name} and {len(models)} models",
                where=f"--{name}",
                fix="give it once for all, or once a model, in the models' order",
            )
        for index, each in enumerate(settings):
            if values:
                each[name] = values[index if len(values) > 1 else 0]
    choices: dict[str, Any] = {"trim": trim, "tokenizer": tokenizer}
    return Recipe(
        method,
        tuple(Entry(place, each) for place, each in zip(models, settings, strict=True)),
        base,
        {name: value for name, value in common.items() if value is not None},
        dtype=dtype,
        seed=seed,
        **choices,
    )
