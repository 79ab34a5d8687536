"""What a model's family says of its file and the file itself does not: prefixes, buffers, whether the output layer is tied.

transformers knows the families. It is imported where a file leaves a question open, and for that alone: that takes seconds.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..layer_groups import NUMBERED

EMBEDDINGS = ("embed_tokens", "embed_in", "embed_positions", "word_embeddings", "wte", "wpe")
HEADS = ("lm_head.", "embed_out.", "score.", "classifier.", "qa_outputs.")  # outside of the base model
# Buffers that are computed from the configuration, that no save_pretrained of today writes, and older ones did.
ROTARY = re.compile(r"(^|\.)inv_freq$")
CAUSAL_MASK = re.compile(r"(^|\.)(attn|attention)\.(bias|masked_bias)$")
POSITIONS = re.compile(r"(^|\.)position_ids$")


def is_derived(name: str, dtype: str, shape: Sequence[int], config: Mapping[str, Any]) -> bool:
    """Whether a tensor is a buffer that the family computes anew.

    A model with code of its own may want it, and keeps it.
    """
    if "auto_map" in config:
        return False
    if CAUSAL_MASK.search(name):
        return len(shape) in (0, 4)  # a bias of an attention layer has one dimension
    return bool(ROTARY.search(name) or (POSITIONS.search(name) and dtype.startswith("I")))


def text_config(config: dict[str, Any]) -> dict[str, Any]:
    """The part of a configuration that the language model's numbers are in: itself, or its `text_config`."""
    inner = config.get("text_config")
    return inner if isinstance(inner, dict) and "vocab_size" not in config else config


def vocabulary_size(config: dict[str, Any]) -> int | None:
    """How many rows the embedding has, as the configuration says; None where it does not."""
    size = text_config(config).get("vocab_size")
    return size if isinstance(size, int) else None


def ties(config: dict[str, Any]) -> bool:
    """Whether the family takes the embedding for an output layer that the file does not have."""
    for part in (config, text_config(config)):
        if "tie_word_embeddings" in part:
            return bool(part["tie_word_embeddings"])
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    known = str(config.get("model_type"))
    return known in CONFIG_MAPPING and bool(getattr(CONFIG_MAPPING[known](), "tie_word_embeddings", False))


def prefix(names: Iterable[str], config: Mapping[str, Any]) -> str:
    """What the names of a file lack that was saved from the base model of its architecture ("transformer."), or "".

    Layers that are numbered at the very top of the names (`h.0.…`) may lack something: transformers knows.
    """
    architectures = config.get("architectures")
    if "auto_map" in config or not isinstance(architectures, list) or not architectures:
        return ""
    numbered = [match["prefix"] for name in names if (match := NUMBERED.match(name))]
    if not numbered or any(before.count(".") > 1 for before in numbered):
        return ""
    import transformers
    from transformers.models.auto.modeling_auto import MODEL_MAPPING_NAMES

    model_type = str(config.get("model_type"))
    if model_type not in MODEL_MAPPING_NAMES or MODEL_MAPPING_NAMES[model_type] == architectures[0]:
        return ""
    before = getattr(getattr(transformers, str(architectures[0]), None), "base_model_prefix", "")
    return f"{before}." if before else ""


def prefixed(name: str, before: str) -> str:
    """The name as the architecture has it: with the prefix, unless it lies outside of the base model."""
    return name if not before or name.startswith((before, *HEADS)) else before + name


def head_of(names: Iterable[str]) -> str | None:
    """The name of the output layer's matrix, or None."""
    return next((name for name in names if name.endswith(("lm_head.weight", "embed_out.weight"))), None)


def embedding_of(names: Iterable[str]) -> str | None:
    """The name of the tokens' embedding, or None."""
    tokens = [word for word in EMBEDDINGS if word not in ("embed_positions", "wpe")]
    return next((name for name in names if any(name.endswith(f"{word}.weight") for word in tokens)), None)
