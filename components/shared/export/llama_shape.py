"""A ternary artifact in the shape and the names of a Llama, for formats that know no other.

A Cognate without memory, refinement and thoughts is a Llama (RMSNorm, RoPE by halves, SwiGLU), and so is what wraps one, or
a Mistral without a sliding window. What else a family has (biases, norms of queries and keys, scaled embeddings, experts,
fused or transposed projections), these formats have no place for: it is refused by its name.
The norms that the conversion put in front of `o_proj` and `down_proj` are those of the BitNet architecture:
`attn_sub_norm` and `ffn_sub_norm`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from components.shared.models.loading import load
from components.shared.models.remote_code.coded import Coded, CodedLinear
from components.shared.models.remote_code.modeling_cognate import CognateForCausalLM
from components.shared.models.remote_code.modeling_wrapped import ForgeWrapped
from components.shared.models.ternary.inference import trits_of
from components.shared.runtime.artifact import artifact
from components.shared.runtime.artifact.manifest import MANIFEST
from components.shared.runtime.errors import InputError

TERNARY = "give a ternary artifact, as phase bitnet publishes it"
AS_IT_IS = "load the artifact as it is, in any program that has transformers 5: its code travels with it"
SUB_NORMS = {"o_proj": "attn_sub_norm", "down_proj": "ffn_sub_norm"}
BIASES = ("mlp_bias", "attention_bias")
SIZES = (
    *("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"),
    *("num_key_value_heads", "max_position_embeddings", "rms_norm_eps", "tie_word_embeddings"),
    *("bos_token_id", "eos_token_id", "pad_token_id"),
)


@dataclass(frozen=True)
class LlamaShape:
    """What a Llama is made of. Names are those of transformers' LlamaForCausalLM.

    settings   of its config
    theta      base of the rotary frequencies
    ternary    "model.layers.0.self_attn.q_proj" → trits (out, in) int8, scale
    others     "model.norm.weight" → float32: embedding, norms, and the head where it is not the embedding
    sub_norms  whether o_proj and down_proj have norms in front of them
    """

    settings: dict[str, Any]
    theta: float
    ternary: dict[str, tuple[np.ndarray, float]]
    others: dict[str, Tensor]
    sub_norms: bool
    tokenizer: PreTrainedTokenizerBase


def read(path: Path) -> LlamaShape:
    """The artifact at `path`.

    :raises ArtifactError: it was changed after it was sealed, or is no model.
    :raises InputError: it is no Llama, or a layer of its blocks is not ternary with int8 activations.
    """
    if (path / MANIFEST).is_file():
        artifact.read(path)
    model, tokenizer = load(path)
    prefix, config = "", model.config
    if isinstance(model, ForgeWrapped):
        prefix, config = "inner.", model.config.inner_config
    why = foreign_parts(model, config)
    if why:
        raise InputError(
            "this model has not the shape of a Llama",
            where=str(path),
            why=why,
            fix=AS_IT_IS,
        )
    ternary: dict[str, tuple[np.ndarray, float]] = {}
    others: dict[str, Tensor] = {}
    normed: set[str] = set()
    for name, module in model.named_modules():
        name, parameters = name.removeprefix(prefix), list(module.named_parameters(recurse=False))
        if isinstance(module, CodedLinear) and ".layers." in name:
            trits = trits_of(module) if module.spec.get("activations") == "int8" else None
            if trits is None:
                raise InputError("a layer is not ternary with int8 activations", where=name, fix=TERNARY)
            ternary[name] = trits
            if module.norm is not None:
                block, _, last = name.rpartition(".")
                normed.add(last)
                others[f"{block}.{SUB_NORMS.get(last, last)}.weight"] = module.norm.weight.detach().float()
        elif isinstance(module, Coded):
            others[f"{name}.weight"] = module.weight.float()
        elif not name.endswith("_proj.norm"):
            others |= {f"{name}.{key}": value.detach().float() for key, value in parameters}
    expected = 7 * config.num_hidden_layers
    if len(ternary) != expected:
        raise InputError(
            f"{len(ternary)} of its {expected} matrices are ternary",
            where=str(path),
            fix=TERNARY,
        )
    if normed not in (set(), set(SUB_NORMS)):
        raise InputError(
            f"norms in front of {', '.join(sorted(normed))} have no place in a Llama",
            where=str(path),
            fix=AS_IT_IS,
        )
    rope = getattr(config, "rope_parameters", None) or {"rope_theta": getattr(config, "rope_theta", 10000.0)}
    settings = {key: getattr(config, key) for key in SIZES}
    if settings["tie_word_embeddings"]:
        others.pop("lm_head.weight", None)
    return LlamaShape(settings, float(rope["rope_theta"]), ternary, others, bool(normed), tokenizer)


def foreign_parts(model: Any, config: Any) -> str:
    """What of a model no Llama has; nothing for one that is a Llama."""
    if isinstance(model, CognateForCausalLM):
        extras = [part for part in ("memory", "refinement", "thoughts") if getattr(config, part)]
        return f"it has {', '.join(extras)}" if extras else ""
    if not isinstance(model, ForgeWrapped):
        return f"it is a {type(model).__name__} without ternary layers"
    if extras := [part for part in ("memory", "refinement", "thoughts") if getattr(model.config, part)]:
        return f"it has {', '.join(extras)}"
    rope = getattr(config, "rope_parameters", None) or {}
    if config.model_type not in ("llama", "mistral"):
        return f"it is a {config.model_type}"
    if getattr(config, "sliding_window", None) is not None:
        return f"it sees a window of {config.sliding_window} tokens"
    if rope.get("rope_type", "default") != "default":
        return f"its rotary frequencies are scaled ({rope['rope_type']})"
    if config.hidden_act != "silu" or any(getattr(config, name, False) for name in BIASES):
        return "its activation is not SiLU, or it has biases"
    if (getattr(config, "head_dim", None) or 0) not in (0, config.hidden_size // config.num_attention_heads):
        return "its heads are not as wide as hidden_size / num_attention_heads"
    return ""
