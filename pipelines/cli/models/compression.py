"""`forge compression …`: the last phase on any model, and what a model's bytes are spent on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ..overridden import Overridden

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Compress a model; see what a model's bytes are spent on.",
)

TEXT_CANDIDATES = ("ectcq 4", "ectcq 3", "ectcq 2.5", "ectcq 2", "ectcq 1.585", "ectcq 1")
"""What a tensor of a model may be given that is calibrated on a text: entropy-coded, of nearly every rate."""


@app.command(cls=Overridden)
def compress(
    source: Annotated[str, typer.Option("--input", "-i", help="A model: folder or s3://…")],
    output: Annotated[str, typer.Option("--output", "-o", help="What is written: folder or s3://…")],
    recipe: Annotated[str, typer.Option(help="best, stages:N, fixed:PRESET or fixed:CODEC@BITS.")] = "best",
    stages: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=2,
            help="1: SeedLM. 2: SeedLM, then VPTQ, then Hyper-Compression, each on what the one before decodes to.",
        ),
    ] = None,
    target_size: Annotated[
        str, typer.Option(metavar="SHARE|BYTES", help="Of the directory: 0.1 of its float32 size, or bytes.")
    ] = "",
    bits: Annotated[
        float | None, typer.Option(help="A parameter, everything in the directory counted.")
    ] = None,
    max_loss: Annotated[str, typer.Option(metavar="SHARE", help="Of what the model knows: 1% or 0.01.")] = "",
    calibration: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            help="A text of the model's own kind: it calibrates and judges in place of the suites' items.",
        ),
    ] = None,
    profile: Annotated[
        str, typer.Option("--profile", "-p", help="tiny, small, full, hf-small …: docs/profiles.md.")
    ] = "tiny",
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    override: Annotated[
        list[str] | None,
        typer.Option(
            "--override", "-O", metavar="compression.KEY=VALUE", help="Change a setting; repeatable."
        ),
    ] = None,
) -> None:
    """Compress a model: the least loss in a size, or the smallest size for a loss.

    \b
    forge compression compress -i MODEL -o DIR --max-loss 1%
    forge compression compress -i MODEL -o DIR --target-size 0.1
    forge compression compress -i MODEL -o DIR --bits 2
    forge compression compress -i MODEL -o DIR --bits 2 --calibration TEXT.txt
    forge compression compress -i MODEL -o DIR --recipe fixed:vptq@2
    forge compression compress -i MODEL -o DIR --stages 2

    Stages are those of the project's documents: the first one is SeedLM on the ternary model of phase bitnet, the second
    adds VPTQ and Hyper-Compression. Every tensor passes all of them, so that their size is what it is: a size to keep to
    goes with recipe best, which gives each tensor the one code that loses least.

    Killed and started again with the same arguments, it goes on from the last tensor that it had written down. What was
    asked for is what is done: the gates of the pipeline are not applied.
    """
    from components.compression.phase import Compression
    from components.shared.runtime.artifact import artifact
    from components.shared.runtime.executor import main

    budget = overrides(source, recipe_of(recipe, stages), target_size, bits, max_loss)
    if calibration is not None:
        budget += calibration_on(calibration)
    arguments = ["--input", source, "--output", output, "--profile", profile, "--seed", str(seed)]
    code = main(Compression, [*arguments, *budget, *(override or [])])
    if code:
        raise typer.Exit(code)
    if Path(output).is_dir():
        inspect(Path(output), tensors=False)
        metrics = artifact.read(Path(output)).manifest.metrics
        retention = metrics.get("retention")
        if "perplexity_after" in metrics:
            typer.echo(
                f"perplexity of held-out text: {metrics['perplexity_before']:.2f} before, "
                f"{metrics['perplexity_after']:.2f} now"
            )
        elif retention is not None:
            typer.echo(
                f"keeps {100 * retention:.2f} % of what the model knew (held-out items, loss of its answers)"
            )


def recipe_of(recipe: str, stages: int | None) -> str:
    """The recipe that both options say.

    :raises ConfigError: they say two.
    """
    from components.shared.runtime.errors import ConfigError

    if stages is None:
        return recipe
    if recipe != "best":
        raise ConfigError(
            f"--stages with --recipe {recipe}", why="each is a recipe of its own", fix="give one"
        )
    return f"stages:{stages}"


def overrides(source: str, recipe: str, target_size: str, bits: float | None, max_loss: str) -> list[str]:
    """The settings of phase compression that say this.

    :raises ConfigError: more than one budget, one that no budget can be, or one for a recipe that takes none.
    """
    from components.shared.runtime.errors import ConfigError

    budgets = {"--target-size": target_size, "--bits": bits, "--max-loss": max_loss}
    named = [name for name, value in budgets.items() if value not in ("", None)]
    settings = [f"compression.recipe={recipe}", "compression.gates=[]"]
    if not named:
        return settings
    if len(named) > 1 or recipe != "best":
        why = (
            "a recipe of fixed codes takes what it takes"
            if recipe != "best"
            else "they are one budget in three units"
        )
        raise ConfigError(
            f"{' and '.join(named)} with recipe {recipe}",
            why=why,
            fix="give one, with recipe best and no stages",
        )
    if max_loss:
        return [*settings, f"compression.retention={1 - _share(max_loss, '--max-loss')!r}"]
    if bits is not None:
        if not 0 < bits <= 32:
            raise ConfigError(f"{bits} bits a parameter", where="--bits", fix="give a number in (0, 32]")
        return [*settings, f"compression.bytes={int(_parameters(source) * bits / 8)}"]
    if target_size.isdecimal() and int(target_size) > 1:
        return [*settings, f"compression.bytes={int(target_size)}"]
    share = _share(target_size, "--target-size")
    return [*settings, f"compression.bytes={int(4 * _parameters(source) * share)}"]


def calibration_on(text: Path) -> list[str]:
    """The settings of phase compression for a model with a language of its own, calibrated and judged on a text.

    Codes are tried on small samples, and what no code touches is left as it is: the profiles' numbers are those of small
    networks.
    """
    name = json.dumps(str(text.resolve()))
    return [
        f"compression.calibration.text={name}",
        f"compression.candidates=[{', '.join(TEXT_CANDIDATES)}]",
        "compression.sample=8192",
        "compression.recovery.steps=0",
        "compression.curve=0",
        "compression.controls=[]",
    ]


def _share(text: str, where: str) -> float:
    """'1%' or '0.01' → 0.01, in (0, 1)."""
    from components.shared.runtime.errors import ConfigError

    try:
        value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        value = float("nan")
    if not 0 < value < 1:
        raise ConfigError(f"{text} is no share", where=where, fix="give 1% or 0.01, between 0 and 1")
    return value


def _parameters(source: str) -> int:
    """That the model computes with, from the headers of its files."""
    from components.shared.runtime.artifact.weights import describe
    from components.shared.runtime.errors import ConfigError

    if "://" in source:
        fix = "give --target-size in bytes, or --max-loss"
        raise ConfigError(
            "the size of a model that is not in a folder is not known yet", where=source, fix=fix
        )
    return describe(Path(source))[1]


@app.command()
def inspect(
    folder: Annotated[Path, typer.Argument(help="A model's folder.")],
    tensors: Annotated[bool, typer.Option(help="A line for each tensor.")] = True,
) -> None:
    """Show what a model's bytes are spent on: code, bits, bytes and error of every tensor."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from components.compression.inspection import inspect as read

    inspection = read(folder)
    console = Console(width=None if typer.get_text_stream("stdout").isatty() else 140)

    def table(*columns: str) -> Table:
        result = Table(box=box.SIMPLE_HEAD)
        for number, column in enumerate(columns):
            result.add_column(column, justify="left" if number == 0 else "right", no_wrap=True)
        return result

    if tensors:
        each = table("tensor", "shape", "code", "bits", "bytes", "output error")
        for row in inspection.rows:
            shape = " × ".join(map(str, row.shape))
            error = "" if row.error is None else f"{row.error:.3g}"
            each.add_row(row.tensor, shape, row.code, f"{row.bits:.3f}", f"{row.bytes:,}", error)
        console.print(each)
    together = table("code", "tensors", "weights", "bits", "bytes")
    for code, (count, weights, size) in inspection.by_code.items():
        together.add_row(code, str(count), f"{weights:,}", f"{8 * size / max(weights, 1):.3f}", f"{size:,}")
    rest = inspection.bytes - sum(row.bytes for row in inspection.rows)
    together.add_row("all else", "", "", "", f"{rest:,}")
    console.print(together)
    console.print(
        f"{inspection.parameters:,} parameters in {inspection.bytes:,} bytes:"
        f" {8 * inspection.bytes / inspection.parameters:.3f} bits each,"
        f" {inspection.times_smaller:.1f} times smaller than float32",
        highlight=False,
    )
