"""`forge bitnet …`: ternary models for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Ternary models for other programs.")

FORMATS = ("transformers", "gguf")
TYPES = ("TQ2_0", "TQ1_0")


@app.command()
def export(
    source: Annotated[Path, typer.Option("--input", "-i", help="A ternary artifact of a Llama's shape.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to write.")],
    export_format: Annotated[str, typer.Option("--format", help="transformers or gguf.")] = FORMATS[0],
    tensor_type: Annotated[
        str, typer.Option("--type", help="Of gguf: TQ2_0 (2.06 bits, fast) or TQ1_0 (1.69 bits).")
    ] = TYPES[0],
) -> None:
    """Write a ternary model in a format that others read.

    \b
    forge bitnet export --input runs/demo/artifacts/bitnet/model --output /tmp/bitnet
    forge bitnet export --format gguf --type TQ1_0 --input MODEL --output /tmp/gguf

    transformers: its own BitNet format, four rows a byte. gguf: model.gguf for llama.cpp and its like.
    """
    from components.shared.runtime.errors import ConfigError

    for value, allowed, where in ((export_format, FORMATS, "--format"), (tensor_type, TYPES, "--type")):
        if value not in allowed:
            raise ConfigError(f"unknown: {value}", where=where, fix=f"one of {', '.join(allowed)}")
    if output.exists() and any(output.iterdir()):
        raise ConfigError("the folder is not empty", where=str(output), fix="give a new one")
    if export_format == "gguf":
        from components.shared.export import gguf

        notes = gguf.export(source, output, "TQ1_0" if tensor_type == "TQ1_0" else "TQ2_0")
    else:
        from components.shared.export import transformers

        notes = transformers.export(source, output)
    for note in notes:
        typer.echo(f"note: {note}")
    for file in sorted(output.iterdir()):
        typer.echo(f"{file.stat().st_size:>14,}  {file}")
