"""Asks something of what a run has made.

An agent answers as its architecture says: experts, thoughts, tools. A model that is no agent yet, or that is to be
sampled from, is asked the way anybody would: plain transformers, and the code that travels with it.
"""

from __future__ import annotations

import json
from pathlib import Path

from components.shared.runtime.errors import ArtifactError

from .runs.folder import DONE, find


def agent_of(runs: Path, place: str) -> Path:
    """The folder of the agent: `place` itself where it holds a model, else the last model that a run has made.

    :raises ArtifactError: the run has made none.
    """
    if (Path(place) / "config.json").is_file():
        return Path(place)
    folder = find(runs, place)
    made = [one for one in folder.tasks() if one.status in DONE]
    for status in sorted(made, key=lambda one: one.finished or 0.0, reverse=True):
        for output in status.outputs.values():
            manifest = folder.path / output / "forge.json"
            if manifest.is_file() and json.loads(manifest.read_text())["kind"] == "model":
                return manifest.parent
    raise ArtifactError(
        "this run has not made a model yet", where=str(folder.path), fix="wait, or go on: --resume"
    )


def answer(agent: Path, prompt: str, *, tokens: int, sample: bool, seed: int) -> str:
    """What the agent answers, or the model writes, after the prompt.

    :param tokens: at most so many new ones; an agent's architecture says for itself how long it answers.
    :param sample: draw from the model's distribution, in place of the most probable token each time.
    """
    from components.shared.agent.agent import AGENT, Agent
    from components.shared.models.ternary.inference import MIN_WEIGHTS, accelerate

    if (agent / AGENT).is_file() and not sample:
        return Agent.load(agent).answers([prompt])[0]

    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    torch.manual_seed(seed)
    tokenizer = AutoTokenizer.from_pretrained(agent, trust_remote_code=True)
    model = AutoModelForCausalLM.from_pretrained(agent, trust_remote_code=True).eval()
    accelerate(model, least=MIN_WEIGHTS)
    start = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]  # as in training
    ids = torch.tensor([[*start, *tokenizer(prompt, add_special_tokens=False)["input_ids"]]])
    with torch.inference_mode():
        written = model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens, do_sample=sample
        )
    return str(tokenizer.decode(written[0, ids.shape[1] :], skip_special_tokens=True))
