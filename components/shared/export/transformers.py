"""A ternary artifact as transformers' own BitNet format.

`quantization_config` {"quant_method": "bitnet"} makes transformers put BitNet layers into the network: four output rows
lie in a byte, two bits each, row r beside rows r + n/4, r + n/2 and r + 3n/4. Its `AutoBitLinear` multiplies what comes out
by `weight_scale` (its `BitLinear` would divide), so that the scale is stored as it is. Networks with norms in front of
o_proj and down_proj are BitNetForCausalLM, others LlamaForCausalLM. What is not ternary is float32: that quantiser loads
tensors in the type that they are stored in, and computes in float32. No code travels along; loading needs `accelerate`.
"""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import BitNetConfig, LlamaConfig, PretrainedConfig
from transformers.integrations.bitnet import VALUES_PER_ITEM, pack_weights

from components.shared.models.loading import save_tokenizer, save_weights
from components.shared.runtime.errors import InputError

from .llama_shape import LlamaShape, read

EPSILON = 1e-6
"""Of the norms in front of o_proj and down_proj (remote_code/coded.py)."""


def export(source: Path, output: Path) -> list[str]:
    """Write the artifact `source` to the folder `output` → what differs from it, for a person to read.

    :raises InputError: the model is no ternary Llama (llama_shape.py), or a layer has not a multiple of four rows.
    """
    shape = read(source)
    tensors = dict(shape.others)
    for name, (trits, scale) in shape.ternary.items():
        if len(trits) % VALUES_PER_ITEM:
            raise InputError(
                f"{len(trits)} rows do not fill bytes of {VALUES_PER_ITEM}",
                where=name,
                fix="export it to GGUF: --format gguf",
            )
        tensors[f"{name}.weight"] = pack_weights(torch.from_numpy(trits.copy()))
        tensors[f"{name}.weight_scale"] = torch.tensor([scale])
    output.mkdir(parents=True, exist_ok=True)
    config_of(shape).save_pretrained(output)
    save_weights({name: tensor.contiguous() for name, tensor in sorted(tensors.items())}, output)
    save_tokenizer(shape.tokenizer, output)
    epsilon = shape.settings["rms_norm_eps"]
    if shape.sub_norms and epsilon != EPSILON:
        return [
            f"the norms before o_proj and down_proj now have the epsilon of the others: {epsilon}, not {EPSILON}"
        ]
    return []


def config_of(shape: LlamaShape) -> PretrainedConfig:
    """The config.json of the export."""
    kind = BitNetConfig if shape.sub_norms else LlamaConfig
    config = kind(
        **shape.settings,
        hidden_act="silu",
        rope_parameters={"rope_type": "default", "rope_theta": shape.theta},
        architectures=["BitNetForCausalLM" if shape.sub_norms else "LlamaForCausalLM"],
        dtype="float32",
    )
    config.quantization_config = {
        "quant_method": "bitnet",
        "linear_class": "autobitlinear",
        "quantization_mode": "offline",
        "modules_to_not_convert": ["lm_head"],
    }
    return config
