"""What makes a phase smaller, by its largest term: settings that the phase takes, tried before they are named."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

Change = Mapping[str, Any]
"""Dotted key below the phase → value."""

HALF = "half"
"""In place of a value: half of what is set."""

RECOMPUTED: Change = {"engine.gradient_checkpointing": True}
SHARED: Change = {"engine.strategy": "zero3", "engine.offload": True, "optimizer": "adamw"}
ADAPTED: Change = {"engine.adapter": "lora"}
LEAST = 0.05
"""Share of all that a term takes below which nothing is said of it."""
SMALLER_MODEL = "a smaller base model, or a larger machine"

CURES: dict[str, tuple[Change | str, ...]] = {
    "activations of a row of text": ({"calibration.row": HALF},),
    "logits of a row of text": ({"calibration.row": HALF},),
    "activations": (
        RECOMPUTED,
        {"rows": HALF},
        {"given.batch": HALF},
        {"questions.batch": HALF, "text.batch": HALF},
        {"batch": HALF},
        {"svf.samples": HALF},
    ),
    "optimiser states": (ADAPTED, {"engine.optimizer_bits": 8, "optimizer": "adamw"}, SHARED),
    "gradients": (ADAPTED, SHARED),
    "weights": (ADAPTED,),
    "DeepSpeed's own copy of the weights": ({"engine.strategy": "fsdp"},),
    "merged model": ("a smaller base model, or one in bfloat16",),
    "parents": ("fewer --base-model, or --no-evomerge",),
    "Gram matrices of a tensor": (
        "fewer --base-model, or evomerge.methods without those that need activations",
    ),
    "weights in bfloat16 for a pass": (RECOMPUTED,),
    "ternary weights": (RECOMPUTED,),
    "changed weights": (RECOMPUTED, {"rank": 8}),
    "changes, their gradients and states": ({"rank": 16},),
    "singular vectors": ("--without adas: experts need the singular vectors of all projections",),
    "RegMean's widest layer": ("evomerge.methods without regmean",),
    "model before the stage": (ADAPTED,),
    "weight average of stabilisation": (
        ADAPTED,
        "training.stages without one of kind stabilisation",
    ),
    "logits of a chunk": ({"rows": HALF}, {"questions.batch": HALF, "text.batch": HALF}, {"batch": HALF}),
}
"""Term → what makes it smaller: settings, or words where it is none."""


def cure_of(phase: str, settings: BaseModel, terms: Mapping[str, int]) -> str:
    """What to change, by the largest terms that anything helps against.

    :param settings: of the phase.
    :param terms: name → bytes, the largest first.
    """
    large = [term for term, size in terms.items() if size >= LEAST * sum(terms.values())]
    ways = [way for term in large for way in CURES.get(term.removesuffix(" (host)"), ())]
    said = dict.fromkeys(text for way in ways if (text := _said(phase, settings, way)))
    return "; or ".join([*list(said)[:3], SMALLER_MODEL])


def _said(phase: str, settings: BaseModel, way: Change | str) -> str:
    """The settings as one writes them; nothing where the phase refuses them, has none of that name, or has them already."""
    if isinstance(way, str):
        return way
    tree = settings.model_dump(mode="json")
    said = []
    for key, value in way.items():
        *path, last = key.split(".")
        section: Any = tree
        for name in path:
            section = section.get(name) if isinstance(section, dict) else None
        if not isinstance(section, dict) or last not in section:
            return ""
        before = section[last]
        if value == HALF:
            value = max(1, before // 2)
        if (
            isinstance(value, int)
            and not isinstance(value, bool)
            and isinstance(before, int)
            and before < value
        ):
            return ""
        if value != before:
            section[last] = value
            said.append(f"{phase}.{key}={str(value).lower() if isinstance(value, bool) else value}")
    try:
        type(settings).model_validate_json(json.dumps(tree), strict=True)
    except ValidationError:
        return ""
    return " ".join(said)
