"""The process that loads models, so that the one which answers requests never does: `python -m …model_worker`.

One request comes on stdin as JSON, and one answer goes to stdout: {"done": …}, or {"error": {what, where, why, fix}}.
A model is used only where every byte of it is what the catalogue's digest says, and code that it brings is not run.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.shared.runtime.errors import ArtifactError, ForgeError

if TYPE_CHECKING:
    from ...generate import TextModel


def local_folder(address: str, digest: str) -> Path:
    """The folder of a model on this machine, verified.

    :raises ArtifactError: it is damaged, or another than the catalogue has.
    :raises StoreError: it cannot be fetched.
    """
    from components.shared.runtime.artifact import artifact
    from components.shared.runtime.store import local_copy

    folder = local_copy.download(address, local_copy.inputs())
    found = artifact.read(folder)
    if found.digest != digest:
        raise ArtifactError(
            "another model lies in this place now", where=address, why=f"it is {found.digest[:12]}",
            fix="import it again",
        )  # fmt: skip
    return folder


def answer(request: dict[str, Any]) -> list[dict[str, Any]]:
    """What each of the models writes after the prompt.

    :param request: {models: [{digest, address}], prompt, tokens}.
    :raises ForgeError: a model cannot be used, or the prompt is none for it.
    """
    from ...generate import TextModel

    answers = []
    for named in request["models"]:
        begun = time.perf_counter()
        model = TextModel.load(local_folder(named["address"], named["digest"]))
        loaded = time.perf_counter()
        completion = model.complete(request["prompt"], tokens=request["tokens"])
        seconds = time.perf_counter() - loaded
        tokens = completion.tokens
        if tokens is None:
            tokens = len(model.tokenizer(completion.text, add_special_tokens=False)["input_ids"])
        answers.append(
            {
                "digest": named["digest"],
                "text": completion.text,
                "finished": completion.finished,
                "tokens": tokens,
                "seconds": seconds,
                "tokens_per_second": tokens / seconds if seconds > 0 else 0.0,
                "load_seconds": loaded - begun,
                "route": _route(model, request["prompt"]),
            }
        )
    return answers


def _route(model: TextModel, prompt: str) -> dict[str, Any] | None:
    """How an agent goes about this prompt: experts, thoughts, branches; None for a plain model."""
    from components.shared.tasks.item import Item

    if model.agent is None:
        return None
    [route] = model.agent.routes([Item("", 1, "report", prompt, "")])
    content: dict[str, Any] = route.model_dump(mode="json")
    return content


def export(request: dict[str, Any]) -> list[str]:
    """Write a model for another program.

    :param request: {digest, address, target, output}.
    :returns: what differs from the model, for a person to read.
    :raises ForgeError: the model has no such form.
    """
    folder = local_folder(request["address"], request["digest"])
    output = Path(request["output"])
    if request["target"] == "gguf":
        from components.shared.export import gguf

        return gguf.export(folder, output)
    from components.shared.export import transformers

    return transformers.export(folder, output)


def evaluate(request: dict[str, Any]) -> list[dict[str, Any]]:
    """What a model scores on the suites of the report split.

    :param request: {digest, address, items, seed}.
    :raises ForgeError: the model cannot be used.
    """
    from components.shared.evaluation import suites

    from ...generate import TextModel

    model = TextModel.load(local_folder(request["address"], request["digest"]))
    taker = model.model if model.agent is None else model.agent.answers
    scores = suites.evaluate(
        taker, model.tokenizer, split="report", items=request["items"], seed=request["seed"]
    )
    return [
        {"suite": suite, "score": score.score, "low": score.low, "high": score.high, "n": score.n,
         "chance": score.chance}
        for suite, score in scores.items()
    ]  # fmt: skip


DO = {"answer": answer, "export": export, "evaluate": evaluate}


def main() -> None:
    """Do what stdin asks for."""
    request = json.loads(sys.stdin.read())
    signal.alarm(int(request["seconds"]) + 10)  # also where whoever asked was killed
    with os.fdopen(os.dup(1), "w") as reply:
        os.dup2(2, 1)  # what libraries print is no answer
        try:
            content = {"done": DO[request["do"]](request)}
        except ForgeError as error:
            content = {
                "error": {"what": error.what, "where": error.where, "why": error.why, "fix": error.fix},
                "kind": type(error).__name__,
            }
        json.dump(content, reply)


if __name__ == "__main__":
    main()
