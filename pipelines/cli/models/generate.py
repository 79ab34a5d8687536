"""`forge generate`, and `forge test`, its other name: what a model writes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..options import Runs, Seed, say

if TYPE_CHECKING:
    from ...generate import Completion, TextModel


def generate(
    *,
    source: Annotated[
        str, typer.Argument(metavar="[RUN|MODEL]", help="A run's last model, or a model's folder or address.")
    ] = "",
    model_path: Annotated[
        str,
        typer.Option(
            "--model-path", metavar="MODEL", help="A model: a folder, s3://…, owner/name of the hub, a .gguf file."
        ),
    ] = "",
    prompt: Annotated[
        list[str],
        typer.Option(help="What to ask; repeatable.", default_factory=list, show_default=False),
    ],
    chat: Annotated[bool, typer.Option("--chat", help="Ask line by line, until the end of input (Ctrl-D).")] = False,
    template: Annotated[
        bool | None,
        typer.Option(
            "--template/--raw", show_default=False,
            help="Put prompts into the tokenizer's chat template, or do not. By default: where it brings one of its own.",
        ),
    ] = None,
    tokens: Annotated[int, typer.Option(min=1, help="At most so many new tokens.")] = 64,
    sample: Annotated[bool, typer.Option(help="Draw the answer, instead of the most probable one.")] = False,
    seed: Seed = 0,
    runs: Runs = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json", help="JSON: one object, in --chat one a line.")] = False,
) -> None:  # fmt: skip
    """Let a model write: the agent of a run, any artifact, or any Hugging Face folder.

    \b
    forge generate --prompt "12+7="
    forge generate --model-path ./Qwen2.5-0.5B-Instruct --prompt "Who are you?" --prompt "What is 2+2?" --tokens 200
    forge generate demo --chat
    forge test --model-path runs/demo/artifacts/evomerge/model --prompt "12+7=" --json

    An agent answers as its architecture says: experts, thoughts, tools (--sample: the model below it). Weights are
    safetensors only, and code that a foreign model brings along is not run. forge test is the same command.
    """
    import json

    from components.shared.runtime.artifact.model_folder import require_model_folder
    from components.shared.runtime.errors import ConfigError

    from ...generate import Chat, TextModel, elsewhere, model_folder

    if source and model_path:
        raise ConfigError(
            "two models are given", where=f"{source}, --model-path {model_path}", fix="give one"
        )
    if bool(prompt) == chat:
        raise ConfigError(
            "there are prompts, and a chat is asked for" if chat else "there is nothing to ask",
            where="--prompt, --chat", fix='give --prompt "…", once or more, or else --chat',
        )  # fmt: skip
    if model_path and "://" not in model_path and elsewhere(runs, model_path) is None:
        require_model_folder(Path(model_path), where=f"--model-path {model_path}")
    folder = model_folder(runs, model_path or source or "latest")
    model = TextModel.load(folder, template=template, plain=sample)
    if not chat:
        answers = model.complete_all(prompt, tokens=tokens, sample=sample, seed=seed)
        if as_json:
            typer.echo(
                json.dumps(
                    {"model": str(folder), "answers": [asdict(answer) for answer in answers]}, indent=1
                )
            )
        else:
            say(str(folder))
            for answer in answers:
                say(f"> {answer.prompt}\n{answer.text}" if len(answers) > 1 else answer.text)
        _hint(model, answers)
        return
    if template is None and model.has_template and not model.ours and not model.template:
        model = replace(model, template=True)
    conversation = Chat(model, tokens, sample, seed)
    if not as_json:
        say(
            str(folder)
            if conversation.remembers
            else f"{folder}\n(no chat template: each line stands for itself)"
        )
    for line in _lines():
        answer = conversation.ask(line)
        if as_json:
            typer.echo(json.dumps(asdict(answer)))
        else:
            say(answer.text)


def _lines() -> Iterator[str]:
    """What the person writes, line by line; empty lines are none."""
    while True:
        if sys.stdin.isatty():
            sys.stderr.write("> ")
            sys.stderr.flush()
        line = sys.stdin.readline()
        if not line:
            return
        if line.strip():
            yield line.strip()


def _hint(model: TextModel, answers: list[Completion]) -> None:
    """Say why an answer may be empty, where the reason is likely the form of the question."""
    empty = not all(answer.text.strip() for answer in answers)
    if empty and model.agent is None and model.has_template and not model.template:
        typer.echo(
            "note: an answer is empty; the tokenizer has a chat template: --template uses it", err=True
        )
