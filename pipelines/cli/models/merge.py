"""`forge merge`: one merge of whole models by one method, without a search; `forge merge methods` lists them.

Names, parameters and their help come from the registry of merge methods.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from typer.core import TyperGroup
from typer.main import get_command

if TYPE_CHECKING:
    from components.shared.merging.method import MergeMethod, Parameter
    from components.shared.merging.streaming.recipe import Recipe

NUMBERS = f"{__name__}.numbers"  # where the registry's options leave their values in the context


class MergeGroup(TyperGroup):
    """Adds an option for every parameter of a streamed method, and the methods to the help."""

    def get_params(self, ctx: Any) -> list[Any]:
        """The options of every merge, those of the methods' parameters, and --help."""
        own = super().get_params(ctx)
        return [*own[:-1], *_parameter_options(), *own[-1:]]

    def format_help_text(self, ctx: Any, formatter: Any) -> None:
        """The text above the options, and a line a method."""
        from components.shared.merging.registry import families, streamed_methods

        super().format_help_text(ctx, formatter)
        for family, methods in families(streamed_methods()).items():
            with formatter.section(family.rstrip(".")):
                formatter.write_dl([(method.name, method.summary) for method in methods])


def _parameter_options() -> list[Any]:
    """An option for each parameter, made by typer from a function's signature."""
    from components.shared.merging.registry import parameters_of, streamed_methods

    def numbers() -> None: ...

    parameters = [
        inspect.Parameter(
            f"number_{parameter.name}",
            inspect.Parameter.KEYWORD_ONLY,
            annotation=_annotation(parameter, readers),
        )
        for parameter, readers in parameters_of(streamed_methods()).values()
    ]
    setattr(numbers, "__signature__", inspect.Signature(parameters))  # noqa: B010
    numbers.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    command = typer.Typer(add_completion=False, rich_markup_mode=None)
    command.command()(numbers)
    options: list[Any] = [
        option for option in get_command(command).params if str(option.name).startswith("number_")
    ]
    for option in options:
        option.expose_value = False
    return options


def _annotation(parameter: Parameter, readers: list[str]) -> Any:
    def keep(ctx: typer.Context, value: Any) -> Any:
        if value:
            values = [parameter.flag] if parameter.flag is not None else list(value)
            ctx.meta.setdefault(NUMBERS, {})[parameter.name] = values
        return value

    each = "; once for all, or once a model" if parameter.per_model else ""
    methods = "" if len(readers) > 8 else f" ({', '.join(readers)})"
    text = f"{parameter.help[0].upper()}{parameter.help[1:]}{each}{methods}."
    kind: Any = list[float]
    if parameter.flag is not None:
        kind = bool
    default = (lambda: False) if parameter.flag is not None else list
    return Annotated[
        kind,
        typer.Option(
            parameter.spelling,
            metavar=None if parameter.flag is not None else "NUMBER",
            help=text,
            callback=keep,
            default_factory=default,
            show_default=False,
        ),
    ]


app = typer.Typer(cls=MergeGroup, rich_markup_mode=None, no_args_is_help=True)


@app.callback(invoke_without_command=True)
def merge(
    ctx: typer.Context,
    *,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The merged model's folder: new, or empty.")
    ] = None,
    method: Annotated[str, typer.Option(help="One of those above.")] = "",
    model: Annotated[
        list[Path],
        typer.Option(
            "--model", "-m", help="A model's folder; once for each.", default_factory=list, show_default=False
        ),
    ],
    base: Annotated[Path | None, typer.Option(help="What the models were trained from.")] = None,
    config: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A mergekit YAML, in place of the options of a recipe."),
    ] = None,
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
        str, typer.Option(help="bfloat16, float16, float32; by default each weight's in the first model.")
    ] = "",
    seed: Annotated[int, typer.Option(help="Of random masks.")] = 0,
    threads: Annotated[int, typer.Option(min=1, help="How many pieces are worked on at once.")] = 2,
) -> None:
    """Merge models of one architecture into one, by one method.

    \b
    forge merge --method linear --model A --model B --output C
    forge merge --method ties --model A --model B --base X --density 0.2 --lambda 1.2 -o C
    forge merge --method dare_ties -m A -m B --base X --weight 0.6 --weight 0.4 --density 0.5 -o C
    forge merge --config mergekit.yml -o C
    forge merge methods

    A model is a folder with config.json and safetensors. Memory stays at a few hundred MB however large the models are.
    The output is a Hugging Face folder whose card holds the recipe; it appears when it is complete. Parents need one
    initialisation: others are merged with a warning, and are most likely good for nothing. To search for the recipe
    instead: forge phase evomerge --help
    """
    if ctx.invoked_subcommand is not None:
        return
    if output is None:
        raise typer.BadParameter("a merge needs a folder to go to", param_hint="--output")
    from components.shared.merging.mergekit.chain import merge_documents
    from components.shared.merging.streaming.merge import StreamingMerge
    from components.shared.runtime.artifact import artifact
    from components.shared.runtime.artifact.manifest import MANIFEST
    from components.shared.runtime.tracking.progress import Progress

    numbers: dict[str, list[float]] = ctx.meta.get(NUMBERS, {})
    if config is not None:
        _refuse_beside_configuration(
            method=method, model=model, base=base, dtype=dtype, trim=trim != "model", tokenizer=tokenizer != "same",
            **numbers,
        )  # fmt: skip
    progress = Progress("merge")

    def write(recipe: Recipe, target: Path) -> None:
        for folder in recipe.folders:
            if (folder / MANIFEST).is_file():  # one of ours: what it says of its bytes has to be so
                artifact.read(folder)
        streaming = StreamingMerge(recipe, threads=threads)
        for note in streaming.notes:
            progress.note(f"warning: {note}")
        result = streaming.write(target, progress=progress)
        typer.echo(
            f"{target}: {result.parameters:,} parameters by {recipe.method} in "
            f"{result.seconds + result.disk_seconds:.1f} s"
        )

    if config is not None:
        merge_documents(config, output, write, seed=seed)
    else:
        write(
            _recipe(method, model, base, numbers, trim=trim, tokenizer=tokenizer, dtype=dtype, seed=seed),
            output,
        )


@app.command("methods")
def methods(
    name: Annotated[str, typer.Argument(metavar="[METHOD]", help="One alone.")] = "",
    json_: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """List the merge methods: paper, file, parameters; those of the search too."""
    import json

    from components.shared.merging.registry import merge_method, merge_methods

    listed = [merge_method(name)] if name else list(merge_methods().values())
    if json_:
        typer.echo(json.dumps([_described(method) for method in listed], indent=1))
        return
    for method in listed:
        typer.echo(f"{method.name}: {method.pretty_name}; {method.summary}")
        typer.echo(f"    {method.paper}\n    {method.source}")
        if not method.streamed:
            typer.echo("    for the search alone: forge phase evomerge --help")
        for parameter in method.parameters:
            typer.echo(
                f"    {parameter.name}: {parameter.help}; {parameter.bounds}, default {parameter.default:g}"
            )


def _described(method: MergeMethod) -> dict[str, Any]:
    return {
        "name": method.name,
        "pretty_name": method.pretty_name,
        "paper": method.paper,
        "summary": method.summary,
        "file": str(method.source),
        "base": method.base,
        "streamed": method.streamed,
        "genes": sorted(method.genes),
        "parameters": [
            {
                "name": parameter.name,
                "option": parameter.spelling,
                "default": parameter.default,
                "bounds": parameter.bounds,
                "per_model": parameter.per_model,
                "mergekit": parameter.mergekit,
                "help": parameter.help,
            }
            for parameter in method.parameters
        ],
    }


def _refuse_beside_configuration(**options: object) -> None:
    from components.shared.runtime.errors import ConfigError

    if extra := [
        name for name, value in options.items() if not (value is None or value is False or value in ("", []))
    ]:
        raise ConfigError(
            "a configuration is the whole recipe",
            where=f"--{extra[0]}",
            fix="give --config without it, or write it there",
        )


def _recipe(
    method: str,
    folders: list[Path],
    base: Path | None,
    numbers: dict[str, list[float]],
    *,
    trim: str,
    tokenizer: str,
    dtype: str,
    seed: int,
) -> Recipe:
    """The recipe of the options. A number that is there once is every model's."""
    from components.shared.merging.streaming.recipe import Recipe, RecipeModel, TokenizerRecipe
    from components.shared.runtime.errors import ConfigError

    for name, choice, allowed in (
        ("trim", trim, ("model", "tensor")),
        ("tokenizer", tokenizer, ("same", "base", "union")),
    ):
        if choice not in allowed:
            raise ConfigError(f"--{name} is {choice!r}", where=f"--{name}", fix=f"use {', '.join(allowed)}")
    own: list[dict[str, Any]] = [{} for _ in folders]
    for name, values in numbers.items():
        if len(values) not in (1, len(folders)):
            raise ConfigError(
                f"there are {len(values)} of --{name} and {len(folders)} models",
                where=f"--{name}",
                fix="give it once for all, or once a model, in the models' order",
            )
        if len(values) > 1:
            for parameters, value in zip(own, values, strict=True):
                parameters[name] = value
    choices: dict[str, Any] = {"trim": trim}
    return Recipe(
        method,
        tuple(RecipeModel(folder, parameters) for folder, parameters in zip(folders, own, strict=True)),
        base,
        {name: values[0] for name, values in numbers.items() if len(values) == 1},
        dtype=dtype,
        seed=seed,
        tokenizer=TokenizerRecipe(cast("Any", tokenizer)),
        **choices,
    )
