"""What the evaluation showed, as the report shows it: claims with their controls, and a few thoughts to read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from components.shared.evaluation.claims import claim
from components.shared.models.remote_code.thoughts import silence, think
from components.shared.tasks.batches import IGNORED, encode, without_scratch
from components.shared.tasks.item import Item

from .evaluation import ItemScores

ACCURACY, NLL = "accuracy, search split", "nats a token of the answer, search split"


def claims(scores: Mapping[str, ItemScores]) -> list[dict[str, Any]]:
    """Every claim of the phase against its control, held or not."""
    return [
        claim(
            text,
            arm,
            np.array(getattr(scores[arm], measure)),
            control,
            np.array(getattr(scores[control], measure)),
            unit=unit,
            higher_is_better=unit == ACCURACY,
        )
        for text, arm, control in (
            ("thoughts beat pause tokens at equal compute", "thoughts", "pause"),
            ("thoughts beat the same model without thinking", "thoughts", "no thought"),
            ("thoughts end better than they were when REINFORCE began", "thoughts", "before REINFORCE"),
            ("what is thought matters: own thoughts beat another question's", "thoughts", "shuffled"),
            ("even without thinking the model answers better than the input model", "no thought", "input"),
        )
        for measure, unit in (("right", ACCURACY), ("nll", NLL))
    ]


def thought_samples(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, items: Sequence[Item]
) -> list[dict[str, str]]:
    """The greedy thought before the first answer token of some items, and that token, to read."""
    samples, settings = [], model.config.thoughts
    for item in items:
        prompt = encode([without_scratch(item)], tokenizer)
        last = int((prompt.labels[0] != IGNORED).int().argmax()) - 1
        ids = prompt.input_ids[:, : last + 1].to(next(model.parameters()).device)
        thought = think(model, ids, positions=torch.tensor([[last]], device=ids.device))
        answer = silence(thought.logits[0, 0], (settings["start"], settings["end"])).argmax()
        words = tokenizer.decode(
            [token for token in thought.tokens[0, 0].tolist() if token != settings["end"]]
        )
        samples.append(
            {
                "prompt": item.prompt,
                "answer": str(tokenizer.decode(answer)),
                "expected": item.answer,
                "note": f"thought: {words} · mixing weight {thought.weight.item():.2f}",
            }
        )
    return samples
