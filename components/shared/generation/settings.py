"""What a model's own generation settings (generation_config.json) mean for texts in slots."""

from __future__ import annotations

from typing import Any

from .requests import Decoding

OTHERS = (
    "assistant_early_exit", "bad_words_ids", "begin_suppress_tokens", "constraints", "dola_layers",
    "encoder_no_repeat_ngram_size", "encoder_repetition_penalty", "epsilon_cutoff", "eta_cutoff",
    "exponential_decay_length_penalty", "forced_bos_token_id", "forced_eos_token_id", "guidance_scale", "min_length",
    "min_new_tokens", "min_p", "no_repeat_ngram_size", "penalty_alpha", "prompt_lookup_num_tokens",
    "remove_invalid_values", "renormalize_logits", "sequence_bias", "stop_strings", "suppress_tokens", "top_h",
    "typical_p", "watermarking_config",
)  # fmt: skip
"""Settings of transformers that change which token comes next, and that texts in slots do not know."""
IDLE: dict[str, float] = {"typical_p": 1, "encoder_repetition_penalty": 1, "guidance_scale": 1}
"""Values of these that change nothing, where it is not 0 or nothing at all."""


def decoding_of(model: Any, *, sample: bool) -> Decoding:
    """How the model's settings choose a token.

    :param sample: draw; else the likeliest token is taken, and of the settings only the repetition penalty counts.
    """
    settings = model.generation_config
    penalty = getattr(settings, "repetition_penalty", None) or 1.0
    if not sample:
        return Decoding(repetition_penalty=penalty)
    return Decoding(
        getattr(settings, "temperature", None) or 1.0,
        getattr(settings, "top_k", None) or 0,
        getattr(settings, "top_p", None) or 1.0,
        penalty,
    )


def unknown_settings(model: Any) -> list[str]:
    """The names of the model's settings that texts in slots do not know."""
    settings = model.generation_config
    values = {name: getattr(settings, name, None) for name in OTHERS}
    unknown = [name for name, value in values.items() if value and value != IDLE.get(name)]
    return unknown + (["num_beams"] if (getattr(settings, "num_beams", None) or 1) > 1 else [])
