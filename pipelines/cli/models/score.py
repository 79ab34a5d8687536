"""`forge score`: how well a model predicts a text, and whether it answers easy questions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ..options import Runs, say


def score(
    *,
    source: Annotated[
        str, typer.Argument(metavar="[RUN|MODEL]", help="A run's last model, or a model's folder or address.")
    ] = "latest",
    text: Annotated[Path | None, typer.Option(help="A text that the model was not trained on.")] = None,
    chat: Annotated[bool, typer.Option("--chat", help="Ask the stand-in suite of easy questions.")] = False,
    most: Annotated[int | None, typer.Option("--most", min=2, help="Tokens of the text, from its beginning.")] = None,
    window: Annotated[int, typer.Option(min=2, help="Tokens that the model reads at a time.")] = 512,
    stride: Annotated[int, typer.Option(min=1, help="From one window to the next; = window: disjoint rows.")] = 256,
    runs: Runs = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json", help="JSON, with what was answered.")] = False,
) -> None:  # fmt: skip
    """Perplexity and bits per byte of a model on a text, and its answers to two dozen easy questions.

    \b
    forge score ./Qwen2.5-0.5B-Instruct --text held-out.txt --chat
    forge score demo --text held-out.txt --most 16384 --json

    Both stand in for scores in a model's own language (evaluation.text and evaluation.chat record them in a run): they
    are no benchmark.
    """
    import json

    from components.shared.evaluation.chat import chat_score
    from components.shared.evaluation.perplexity import text_score
    from components.shared.runtime.errors import ConfigError, InputError

    from ...generate import TextModel, model_folder

    if text is None and not chat:
        raise ConfigError("there is nothing to score by", where="--text, --chat", fix="give one, or both")
    model = TextModel.load(model_folder(runs, source))
    found: dict[str, Any] = {}
    if text is not None:
        try:
            content = text.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError("the text cannot be read", where=f"--text {text}", why=str(error)) from error
        scored = text_score(model.model, model.tokenizer, content, window=window, stride=stride, most=most)
        found |= scored.as_dict()
    if chat:
        found["chat"] = chat_score(model.agent.answers if model.agent else model.model, model.tokenizer)
    if as_json:
        typer.echo(json.dumps({"model": str(model.folder), **found}, indent=1))
        return
    say(str(model.folder))
    if text is not None:
        perplexity, bits = (
            f"{found[name]:{form}}"
            + (
                f" [{found[f'{name}_low']:{form}}, {found[f'{name}_high']:{form}}]"
                if f"{name}_low" in found
                else ""
            )
            for name, form in (("perplexity", ".3f"), ("bits_per_byte", ".4f"))
        )
        say(f"perplexity {perplexity}, {bits} bits a byte, {found['tokens']:.0f} tokens")
    if chat:
        answered = found["chat"]
        say(
            f"chat: {answered['right']} of {answered['n']} easy questions answered right "
            f"[{answered['low']:.0%}, {answered['high']:.0%}]"
        )
        for answer in found["chat"]["answers"]:
            if not answer["right"]:
                say(f"  {answer['question']} → {answer['answer'][:70]!r}")
